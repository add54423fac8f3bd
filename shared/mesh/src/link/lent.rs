//! HTTP/1.1 connections: each carries one call at a time and goes back to the idle ones after it.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;

use super::{Held, LinkBody, LinkError, Wire, lock};
use crate::{
    BoxError, Replay,
    pool::{Pool, count},
};

/// Idle connections kept per backend.
const IDLE_LIMIT: usize = 64;

/// The HTTP/1.1 connections of one owner to one backend.
pub(crate) struct LentConnections<B> {
    address: String,
    wire: Wire,
    pool: Arc<Pool>,
    tasks: TaskTracker,
    idle: Mutex<Vec<http1::SendRequest<Replay<B>>>>,
}

impl<B> LentConnections<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(address: &str, wire: Wire, pool: Arc<Pool>, tasks: TaskTracker) -> Self {
        Self { address: address.to_owned(), wire, pool, tasks, idle: Mutex::new(Vec::new()) }
    }

    pub(super) async fn send(&self, request: Request<Replay<B>>) -> Result<Response<LinkBody<B>>, LinkError> {
        let mut sender = match self.lend() {
            Some(sender) => sender,
            None => Box::pin(self.connect()).await?,
        };
        match sender.try_send_request(request).await {
            Ok(response) => {
                Ok(response.map(|incoming| LinkBody { incoming, held: Held::Connection(sender) }))
            }
            Err(mut refused) => {
                let unsent = refused.take_message().is_some();
                Err(LinkError::sent(refused.into_error(), unsent))
            }
        }
    }

    fn lend(&self) -> Option<http1::SendRequest<Replay<B>>> {
        let mut idle = lock(&self.idle);
        std::iter::from_fn(|| idle.pop()).find(http1::SendRequest::is_ready)
    }

    async fn connect(&self) -> Result<http1::SendRequest<Replay<B>>, LinkError> {
        let stream =
            self.wire.connect_for_call(&self.address, &self.pool).await.map_err(LinkError::connect)?;
        let handshake = http1::Builder::new().max_headers(256).handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(LinkError::connect)?;
        count(&self.pool.tally.connections);
        let pool = Arc::clone(&self.pool);
        self.tasks.spawn(async move {
            let ended = connection.with_upgrades().await;
            count(&pool.tally.connections_ended);
            ended
        });
        Ok(sender)
    }

    pub(super) fn give_back(&self, sender: http1::SendRequest<Replay<B>>) {
        let mut idle = lock(&self.idle);
        if !sender.is_closed() && idle.len() < IDLE_LIMIT {
            idle.push(sender);
        }
    }
}
