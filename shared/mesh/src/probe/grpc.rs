//! `grpc.health.v1` on one kept connection: `Watch` where it is served, else `Check`.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri};
use hyper::{body::Incoming, client::conn::http2};
use tonic::{Code, Status, Streaming, body::Body};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use super::session::{Dial, Lifeline, Verdict};

/// The health of one gRPC backend.
pub(super) struct GrpcSession {
    dial: Dial,
    origin: Result<Uri, String>,
    service: String,
    limit: Duration,
    live: Option<Live>,
}

/// A connection, with the stream on it if the server has one.
struct Live {
    client: HealthClient<Sender>,
    watch: Option<Watch>,
    _lifeline: Lifeline,
}

/// An open `Watch`, and what it said last.
struct Watch {
    stream: Streaming<HealthCheckResponse>,
    serving: bool,
}

impl GrpcSession {
    pub(super) fn new(dial: Dial, authority: &str, service: &str, limit: Duration) -> Self {
        let scheme = if dial.wire.tls.is_some() { "https" } else { "http" };
        let origin = format!("{scheme}://{authority}").parse();
        let origin = origin.map_err(|_| format!("{authority} is no authority"));
        Self { dial, origin, service: service.to_owned(), limit, live: None }
    }

    pub(super) fn close(&mut self) {
        self.live = None;
    }

    /// Asks on the kept connection, and on a new one if that has none or has broken since.
    pub(super) async fn ask(&mut self) -> Verdict {
        if let Some(live) = &mut self.live {
            let request = HealthCheckRequest { service: self.service.clone() };
            match live.ask(request, self.limit).await {
                Verdict::Failed(reason) => {
                    tracing::debug!(reason, "health check is repeated on a new connection");
                }
                verdict => return verdict,
            }
            self.live = None;
        }
        self.open().await.unwrap_or_else(Verdict::Failed)
    }

    pub(super) async fn listen(&mut self) -> Verdict {
        match self.live.as_mut().and_then(|live| live.watch.as_mut()) {
            Some(watch) => watch.next().await,
            None => std::future::pending().await,
        }
    }

    async fn open(&mut self) -> Result<Verdict, String> {
        let origin = self.origin.clone()?;
        let (stream, lifeline) = self.dial.connect().await.map_err(|error| error.to_string())?;
        let handshake = http2::handshake(lifeline.executor(), stream).await;
        let (sender, connection) = handshake.map_err(|error| crate::error::chain(&error))?;
        lifeline.run(connection);
        let client = HealthClient::with_origin(Sender(sender), origin);
        let live = self.live.insert(Live { client, watch: None, _lifeline: lifeline });
        Ok(live.begin(HealthCheckRequest { service: self.service.clone() }, self.limit).await)
    }
}

impl Live {
    /// Opens the stream, whose first message is the state now, and asks without it where there is none.
    async fn begin(&mut self, request: HealthCheckRequest, limit: Duration) -> Verdict {
        let watching = match self.client.watch(request.clone()).await {
            Ok(response) => {
                let mut watch = Watch { stream: response.into_inner(), serving: true };
                watch.stream.message().await.map(|first| (watch.take(first), watch))
            }
            Err(status) => Err(status),
        };
        match watching {
            Ok((verdict, watch)) => {
                self.watch = Some(watch);
                verdict
            }
            Err(status) if status.code() == Code::Unimplemented => self.check(request, limit).await,
            Err(status) => failure(&status),
        }
    }

    /// A stream that is silent is confirmed: a process that hangs says nothing either.
    async fn ask(&mut self, request: HealthCheckRequest, limit: Duration) -> Verdict {
        let client = self.client.clone();
        let check = check(client, request, limit);
        let Some(watch) = &mut self.watch else { return check.await };
        let verdict = tokio::select! {
            biased;
            verdict = watch.next() => return verdict,
            verdict = check => verdict,
        };
        if watch.serving || matches!(verdict, Verdict::Failed(_)) { verdict } else { Verdict::Alive }
    }

    async fn check(&self, request: HealthCheckRequest, limit: Duration) -> Verdict {
        check(self.client.clone(), request, limit).await
    }
}

impl Watch {
    async fn next(&mut self) -> Verdict {
        match self.stream.message().await {
            Ok(message) => self.take(message),
            Err(status) => failure(&status),
        }
    }

    fn take(&mut self, message: Option<HealthCheckResponse>) -> Verdict {
        let Some(message) = message else { return Verdict::Failed("ended its health stream".to_owned()) };
        let before = self.serving;
        let verdict = said(&message);
        self.serving = verdict == Verdict::Passed;
        if self.serving && !before { Verdict::Serving } else { verdict }
    }
}

async fn check(mut client: HealthClient<Sender>, request: HealthCheckRequest, limit: Duration) -> Verdict {
    let mut request = tonic::Request::new(request);
    request.set_timeout(limit);
    match client.check(request).await {
        Ok(response) => said(response.get_ref()),
        Err(status) if status.code() == Code::Unimplemented => Verdict::Passed,
        Err(status) => failure(&status),
    }
}

fn said(response: &HealthCheckResponse) -> Verdict {
    match ServingStatus::try_from(response.status) {
        Ok(ServingStatus::Serving) => Verdict::Passed,
        Ok(status) => Verdict::NotServing(format!("says {}", status.as_str_name())),
        Err(_) => Verdict::NotServing(format!("says status {}", response.status)),
    }
}

fn failure(status: &Status) -> Verdict {
    Verdict::Failed(match status.code() {
        Code::NotFound => "does not know the checked service".to_owned(),
        code => format!("answered {code:?} to the health check: {}", status.message()),
    })
}

/// hyper's connection as the client's transport.
#[derive(Clone)]
struct Sender(http2::SendRequest<Body>);

impl tower::Service<Request<Body>> for Sender {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
