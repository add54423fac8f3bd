//! Asking DNS: `/etc/hosts`, then the servers of `/etc/resolv.conf` or of the configuration.
//!
//! hickory speaks the protocol; searching domains and joining A with AAAA is done here, because hickory gives the half
//! of an answer whose other half failed for the whole.

use std::{
    collections::HashMap,
    fs,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant, SystemTime},
};

use futures::future::{join, join_all};
use hickory_resolver::{
    Hosts, TokioResolver,
    config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RData, RecordType, rdata::SRV},
    },
    system_conf::read_system_conf,
};

use super::{
    family::{Families, Reply},
    records::{candidates, tiers, weights},
};
use crate::discovery::table::Found;

/// How long a server has for one try, so that a lost packet is repeated within a lookup.
const TRY_TIMEOUT: Duration = Duration::from_millis(1500);
/// Hosts taken from one SRV answer, at most.
const HOST_LIMIT: usize = 256;

/// Backends, and how long they are good for.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) found: Vec<Found>,
    pub(super) ttl: Duration,
}

/// Addresses or records, and until when they are good.
type Dated<T> = (T, Instant);

/// The resolver of one target.
pub(super) struct Resolver {
    nameservers: Vec<SocketAddr>,
    system: Option<System>,
    known: HashMap<Name, Families>,
}

/// The system's settings as of one moment, and what they lead to.
struct System {
    files: [Option<SystemTime>; 2],
    hosts: Hosts,
    search: Vec<Name>,
    ndots: usize,
    servers: TokioResolver,
}

/// A name as certificates have it: without the dot of the root.
fn spelled(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

impl Resolver {
    pub(super) fn new(nameservers: &[SocketAddr]) -> Self {
        Self { nameservers: nameservers.to_vec(), system: None, known: HashMap::new() }
    }

    /// The addresses of a host, each with this port.
    pub(super) async fn addresses(&mut self, host: &str, port: u16) -> Result<Answer, String> {
        let host: Name = host.parse().map_err(|_| "is not a name of DNS".to_owned())?;
        let system = current(&mut self.system, &self.nameservers)?;
        let known = self.known.entry(host.clone()).or_default();
        match system.addresses(&host, known).await {
            Reply::Records((addresses, until)) => {
                let found = |ip| Found {
                    address: SocketAddr::new(ip, port),
                    host: Some(spelled(&host)),
                    weight: None,
                    tier: None,
                };
                Ok(answer(addresses.into_iter().map(found).collect(), until))
            }
            Reply::Nothing(error) | Reply::Failed(error) => Err(error),
        }
    }

    /// The hosts of a service, each with the port, weight and priority of its record. A host without an address is left out; one
    /// whose lookup fails fails the whole.
    pub(super) async fn services(&mut self, service: &str) -> Result<Answer, String> {
        let service: Name = service.parse().map_err(|_| "is not a name of DNS".to_owned())?;
        let system = current(&mut self.system, &self.nameservers)?;
        let (records, mut until) = system.records(&service).await?;
        let mut known = std::mem::take(&mut self.known);
        let hosts = records.iter().map(|record| {
            let mut families = known.remove(&record.target).unwrap_or_default();
            async move { (system.addresses(&record.target, &mut families).await, families) }
        });
        let hosts = join_all(hosts).await;
        let (mut found, mut failed) = (Vec::new(), None);
        let shares = weights(&records).into_iter().zip(tiers(&records));
        for ((record, (weight, tier)), (reply, families)) in records.iter().zip(shares).zip(hosts) {
            self.known.insert(record.target.clone(), families);
            match reply {
                Reply::Records((addresses, host_until)) => {
                    until = until.min(host_until);
                    let port = record.port;
                    let at = |ip| Found {
                        address: SocketAddr::new(ip, port),
                        host: Some(spelled(&record.target)),
                        weight: Some(weight),
                        tier: Some(tier),
                    };
                    found.extend(addresses.into_iter().map(at));
                }
                Reply::Nothing(error) => tracing::debug!(host = %record.target, error, "host is left out"),
                Reply::Failed(error) => failed = Some(format!("{}: {error}", record.target)),
            }
        }
        match failed {
            Some(error) => Err(error),
            None if found.is_empty() => Err("no host of the service has an address".to_owned()),
            None => Ok(answer(found, until)),
        }
    }
}

fn answer(mut found: Vec<Found>, until: Instant) -> Answer {
    found.sort_by_key(|found| found.address);
    found.dedup_by_key(|found| found.address);
    Answer { found, ttl: until.saturating_duration_since(Instant::now()) }
}

/// The system's settings, read again when their files have changed.
fn current<'a>(system: &'a mut Option<System>, nameservers: &[SocketAddr]) -> Result<&'a System, String> {
    let files = ["/etc/resolv.conf", "/etc/hosts"];
    let files = files.map(|path| fs::metadata(path).and_then(|file| file.modified()).ok());
    if system.as_ref().is_some_and(|system| system.files != files) {
        *system = None;
    }
    match system {
        Some(system) => Ok(system),
        None => Ok(system.insert(System::read(files, nameservers)?)),
    }
}

impl System {
    fn read(files: [Option<SystemTime>; 2], nameservers: &[SocketAddr]) -> Result<Self, String> {
        let (config, mut options) = if nameservers.is_empty() {
            // Without the file there is no server, and what /etc/hosts has is found.
            let none = (ResolverConfig::from_parts(None, Vec::new(), Vec::new()), ResolverOpts::default());
            if files[0].is_some() { read_system_conf().map_err(|error| error.to_string())? } else { none }
        } else {
            let servers = nameservers.iter().map(|address| nameserver(*address)).collect();
            (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default())
        };
        options.timeout = options.timeout.min(TRY_TIMEOUT);
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        let (search, ndots) = (config.search().to_vec(), options.ndots);
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let servers = builder.with_options(options).build().map_err(|error| error.to_string())?;
        Ok(Self { files, hosts: Hosts::from_system().unwrap_or_default(), search, ndots, servers })
    }

    async fn addresses(&self, host: &Name, known: &mut Families) -> Reply<Dated<Vec<IpAddr>>> {
        let local = [RecordType::A, RecordType::AAAA]
            .map(|kind| self.hosts.lookup_static_host(&Query::query(host.clone(), kind)))
            .into_iter()
            .flatten();
        if let Some((addresses, until)) = local.map(|lookup| dated(&lookup)).reduce(both) {
            return Reply::Records((addresses, until));
        }
        let mut reply = Reply::Nothing("there is no name to look up".to_owned());
        for name in candidates(host, &self.search, self.ndots) {
            let (v4, v6) = join(self.query(&name, RecordType::A), self.query(&name, RecordType::AAAA)).await;
            let (v4, v4_until) = split(v4);
            let (v6, v6_until) = split(v6);
            let until = v4_until.into_iter().chain(v6_until).min().unwrap_or_else(Instant::now);
            reply = match known.take(v4, v6) {
                // Only where a name certainly is not, it is looked for elsewhere.
                Reply::Nothing(error) => Reply::Nothing(error),
                Reply::Failed(error) => return Reply::Failed(error),
                Reply::Records(addresses) => return Reply::Records((addresses, until)),
            };
        }
        reply
    }

    async fn records(&self, service: &Name) -> Result<Dated<Vec<SRV>>, String> {
        let mut nothing = String::new();
        for name in candidates(service, &self.search, self.ndots) {
            let lookup = match self.query(&name, RecordType::SRV).await {
                Reply::Records(lookup) => lookup,
                Reply::Failed(error) => return Err(error),
                Reply::Nothing(error) => {
                    nothing = error;
                    continue;
                }
            };
            let records = lookup.answers().iter().filter_map(|record| match &record.data {
                // A target "." says that the service is not offered (RFC 2782).
                RData::SRV(record) if !record.target.is_root() => Some(record.clone()),
                _ => None,
            });
            let records: Vec<SRV> = records.take(HOST_LIMIT).collect();
            if records.is_empty() {
                return Err("the service is not offered".to_owned());
            }
            return Ok((records, lookup.valid_until()));
        }
        Err(nothing)
    }

    async fn query(&self, name: &Name, kind: RecordType) -> Reply<Lookup> {
        match self.servers.lookup(name.clone(), kind).await {
            Ok(lookup) if lookup.answers().iter().any(|record| record.record_type() == kind) => {
                Reply::Records(lookup)
            }
            Ok(_) => Reply::Nothing(format!("no {kind} record")),
            Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => {
                Reply::Nothing(format!("no {kind} record ({})", nothing.response_code))
            }
            Err(error) => Reply::Failed(error.to_string()),
        }
    }
}

fn nameserver(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

fn dated(lookup: &Lookup) -> Dated<Vec<IpAddr>> {
    let addresses = lookup.answers().iter().filter_map(|record| record.data.ip_addr());
    (addresses.collect(), lookup.valid_until())
}

fn both(mut one: Dated<Vec<IpAddr>>, other: Dated<Vec<IpAddr>>) -> Dated<Vec<IpAddr>> {
    one.0.extend(other.0);
    (one.0, one.1.min(other.1))
}

/// The addresses of a reply, and until when they are good.
fn split(reply: Reply<Lookup>) -> (Reply<Vec<IpAddr>>, Option<Instant>) {
    match reply {
        Reply::Records(lookup) => {
            let (addresses, until) = dated(&lookup);
            (Reply::Records(addresses), Some(until))
        }
        Reply::Nothing(error) => (Reply::Nothing(error), None),
        Reply::Failed(error) => (Reply::Failed(error), None),
    }
}
