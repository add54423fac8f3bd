//! Asking every replica for its statistics, as bytes: the gateway does not know what they mean.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes};
use futures::future::join_all;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use weft_balance::Backend;
use weft_mesh::{Channel, identity::Signer};

use crate::admin::{Entry, Pools};

/// How long a replica may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// One replica's answer.
pub(crate) struct Answer {
    pub(crate) entry: Arc<Entry>,
    pub(crate) backend: Arc<Backend>,
    pub(crate) result: Result<Bytes, String>,
    pub(crate) elapsed: Duration,
}

/// Connections to replicas, kept from one round to the next.
#[derive(Default)]
pub(crate) struct Collector {
    channels: Mutex<HashMap<String, Channel>>,
    /// Tells services that it is the gateway that asks.
    signer: Option<Arc<Signer>>,
}

impl Collector {
    pub(crate) fn new(signer: Option<Arc<Signer>>) -> Self {
        Self { signer, ..Self::default() }
    }

    /// Asks every replica of every pool that says how, or of one pool.
    pub(crate) async fn collect(&self, pools: &Pools, only: &str) -> Vec<Answer> {
        let mut asked = Vec::new();
        let mut addresses = Vec::new();
        for entry in pools.iter().filter(|entry| only.is_empty() || entry.config.name == only) {
            let Some(method) = &entry.config.stats_method else { continue };
            for backend in entry.pool.backends.list().iter() {
                addresses.push(backend.address().to_owned());
                let asks = (pools.audience(&entry), method.clone());
                asked.push(self.ask(Arc::clone(&entry), Arc::clone(backend), asks));
            }
        }
        let answers = join_all(asked).await;
        self.channels().retain(|address, _| addresses.contains(address));
        answers
    }

    async fn ask(
        &self,
        entry: Arc<Entry>,
        backend: Arc<Backend>,
        (audience, method): (Option<String>, String),
    ) -> Answer {
        let began = Instant::now();
        let signer = self.signer.clone().filter(|_| audience.is_some());
        let channel = self
            .channels()
            .entry(backend.address().to_owned())
            .or_insert_with(|| Channel::direct(backend.address()))
            .clone()
            .signed_by(signer, audience.as_deref().unwrap_or_default());
        let result = match format!("/{}", method.trim_start_matches('/')).parse() {
            Ok(path) => unary(channel, path).await.map_err(|status| status.message().to_owned()),
            Err(_) => Err("stats_method is not a path".to_owned()),
        };
        Answer { entry, backend, result, elapsed: began.elapsed() }
    }

    fn channels(&self) -> std::sync::MutexGuard<'_, HashMap<String, Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls a unary method with an empty message.
async fn unary(channel: Channel, path: http::uri::PathAndQuery) -> Result<Bytes, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await?;
    let mut request = Request::new(Bytes::new());
    request.set_timeout(TIMEOUT);
    Ok(client.unary(request, path, Raw).await?.into_inner())
}

/// Messages as they are on the wire.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length)))
    }
}
