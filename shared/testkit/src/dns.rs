//! A DNS server that answers what a test tells it.
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hickory_proto::{
    op::{Message, MessageType, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::SRV},
};
use tokio::net::UdpSocket;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// How a name fails to resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsFailure {
    /// NXDOMAIN: the name does not exist.
    Unknown,
    /// SERVFAIL: the server cannot say.
    Broken,
    /// No answer at all.
    Silent,
}

/// A DNS server on a port of its own, over UDP; it ends when it is dropped. Names it was not told of do not exist.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _end: DropGuard,
}

#[derive(Debug, Default)]
struct Zone {
    answers: HashMap<(Name, RecordType), Answer>,
    queries: HashMap<(Name, RecordType), usize>,
}

#[derive(Clone, Debug)]
enum Answer {
    Records(Vec<Record>),
    Failure(DnsFailure),
}

/// What a name is asked for.
const KINDS: [RecordType; 3] = [RecordType::A, RecordType::AAAA, RecordType::SRV];

impl DnsServer {
    /// Starts without a name.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (zone, end) = (Arc::<Mutex<Zone>>::default(), CancellationToken::new());
        let address = socket.local_addr()?;
        let serving = end.clone().run_until_cancelled_owned(serve(socket, Arc::clone(&zone)));
        TaskTracker::new().spawn(serving);
        Ok(Self { address, zone, _end: end.drop_guard() })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives a name these addresses, IPv4 and IPv6, for `ttl` seconds each; without any, the name exists and is empty.
    ///
    /// # Panics
    /// When it is no name.
    pub fn set_addresses(&self, name: &str, addresses: &[IpAddr], ttl: u32) {
        let (v4, v6) = addresses.iter().copied().partition::<Vec<_>, _>(IpAddr::is_ipv4);
        let name = absolute(name);
        let records = |addresses: Vec<IpAddr>| {
            let records =
                addresses.into_iter().map(|ip| Record::from_rdata(name.clone(), ttl, RData::from(ip)));
            Answer::Records(records.collect())
        };
        self.set(&name, &[(RecordType::A, records(v4)), (RecordType::AAAA, records(v6))]);
    }

    /// Gives a service these `(priority, weight, port, host)`, for `ttl` seconds each.
    ///
    /// # Panics
    /// When it or a host is no name.
    pub fn set_services(&self, name: &str, services: &[(u16, u16, u16, &str)], ttl: u32) {
        let name = absolute(name);
        let records = services.iter().map(|(priority, weight, port, host)| {
            let record = SRV::new(*priority, *weight, *port, absolute(host));
            Record::from_rdata(name.clone(), ttl, RData::SRV(record))
        });
        self.set(&name, &[(RecordType::SRV, Answer::Records(records.collect()))]);
    }

    /// Lets every question for a name fail until it is set again.
    ///
    /// # Panics
    /// When it is no name.
    pub fn fail(&self, name: &str, failure: DnsFailure) {
        self.set(&absolute(name), &KINDS.map(|kind| (kind, Answer::Failure(failure))));
    }

    /// How often a name was asked for since the start, whatever for.
    ///
    /// # Panics
    /// When it is no name.
    pub fn queries(&self, name: &str) -> usize {
        let (name, zone) = (absolute(name), lock(&self.zone));
        KINDS.iter().filter_map(|kind| zone.queries.get(&(name.clone(), *kind))).sum()
    }

    fn set(&self, name: &Name, answers: &[(RecordType, Answer)]) {
        let mut zone = lock(&self.zone);
        for (kind, answer) in answers {
            zone.answers.insert((name.clone(), *kind), answer.clone());
        }
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4096];
    while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
        let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
        if let Some(answer) = answer(&zone, question).and_then(|answer| answer.to_vec().ok()) {
            let _ = socket.send_to(&answer, client).await;
        }
    }
}

fn answer(zone: &Mutex<Zone>, question: Message) -> Option<Message> {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    let query: Query = question.queries.into_iter().next()?;
    let key = (query.name().to_lowercase(), query.query_type());
    let mut zone = lock(zone);
    *zone.queries.entry(key.clone()).or_default() += 1;
    let exists = KINDS.iter().any(|kind| zone.answers.contains_key(&(key.0.clone(), *kind)));
    let said = zone.answers.get(&key).cloned();
    answer.add_query(query);
    match said {
        Some(Answer::Records(records)) => {
            answer.add_answers(records);
        }
        Some(Answer::Failure(DnsFailure::Silent)) => return None,
        Some(Answer::Failure(DnsFailure::Broken)) => answer.metadata.response_code = ResponseCode::ServFail,
        None if exists => {}
        Some(Answer::Failure(DnsFailure::Unknown)) | None => {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
    }
    Some(answer)
}

#[allow(clippy::panic, reason = "a test that names no name is broken")]
fn absolute(name: &str) -> Name {
    let Ok(mut name) = name.to_lowercase().parse::<Name>() else { panic!("\"{name}\" is no name of DNS") };
    name.set_fqdn(true);
    name
}

fn lock(zone: &Mutex<Zone>) -> MutexGuard<'_, Zone> {
    zone.lock().unwrap_or_else(PoisonError::into_inner)
}
