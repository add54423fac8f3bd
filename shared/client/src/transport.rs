//! What carries the calls: a balanced channel, and the user on whose behalf it is used.

use std::{
    fmt,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{HeaderValue, Request, header};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tonic::{body::Body, codegen::Service};
use weft_mesh::{
    Channel, Peer,
    context::{self, Caller, Context, Role},
};

use crate::Options;

/// How often the gateway's health is checked: a restarted one is to be used as soon as it is back.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// The transport of generated clients. Calls are made on the user's behalf, whoever is current; a deadline that is
/// current holds.
#[derive(Clone)]
pub struct Transport {
    channel: Channel,
    user: Arc<str>,
    authorization: Option<HeaderValue>,
    _background: Arc<Background>,
}

/// A channel whose probes and connections end when it is dropped.
pub(crate) struct Background {
    channel: Channel,
    _stop: DropGuard,
}

impl Background {
    pub(crate) fn start(authority: &str, options: &Options) -> Arc<Self> {
        let stopping = CancellationToken::new();
        let peer =
            Peer { timeout: options.timeout, health_interval: HEALTH_INTERVAL, ..Peer::at([authority]) };
        let channel = Channel::new("gateway", &peer, &TaskTracker::new(), stopping.clone());
        Arc::new(Self { channel, _stop: stopping.drop_guard() })
    }
}

impl Transport {
    pub(crate) fn new(background: Arc<Background>, user: &str, authorization: Option<HeaderValue>) -> Self {
        Self {
            channel: background.channel.clone(),
            user: user.into(),
            authorization,
            _background: background,
        }
    }

    /// The user on whose behalf calls are made.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Service<Request<Body>> for Transport {
    type Response = <Channel as Service<Request<Body>>>::Response;
    type Error = <Channel as Service<Request<Body>>>::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().extend(self.authorization.clone().map(|value| (header::AUTHORIZATION, value)));
        let caller = Caller { user: self.user.to_string(), role: Role::User };
        let context = Context { caller, deadline: context::current().deadline };
        let call = context::sync_scope(&context, || self.channel.call(request));
        Box::pin(context::scope(context, call))
    }
}
