//! A gRPC backend that answers each call as the call asks, and misbehaves on command.

use std::{
    convert::Infallible,
    future::{pending, ready},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    http::request::Parts,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
    time::sleep,
};
use tokio_util::task::TaskTracker;

use super::{
    asked::Asked,
    behaviour::Behaviour,
    gauge::Gauge,
    message::plain,
    ticks::{Ticks, ok},
};

/// More than any gateway has in flight here, so that no call waits for a stream.
const MOST_STREAMS: u32 = 10_000;
/// A proxy that has a connection for every call may open thousands in a second.
const MOST_UNACCEPTED: u32 = 4096;
/// `HealthCheckResponse { status: SERVING }`.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

const UNIMPLEMENTED: HeaderValue = HeaderValue::from_static("12");
const UNAVAILABLE: HeaderValue = HeaderValue::from_static("14");

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Which backend, and how much it can do.
#[derive(Clone, Debug, clap::Args)]
pub struct BackendOptions {
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long)]
    pub port: u16,
    /// What the header `x-backend` of its answers says.
    #[arg(long)]
    pub name: String,
    /// How many calls it serves at once, in the order they came; the others wait. 0 serves any number. A stream is served
    /// until its end.
    #[arg(long, default_value_t = 0)]
    pub slots: usize,
}

/// A backend that listens. It only ever sleeps, so no call slows another one down but by its place in the line.
#[derive(Debug)]
pub struct Backend {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: HeaderValue,
    slots: Arc<Semaphore>,
    behaviour: Mutex<Behaviour>,
    gauge: Arc<Gauge>,
}

impl Backend {
    /// Listens on 127.0.0.1.
    ///
    /// # Errors
    /// When the port cannot be bound, or the name cannot stand in a header.
    pub async fn bind(options: &BackendOptions) -> io::Result<Self> {
        let name = HeaderValue::from_str(&options.name).map_err(io::Error::other)?;
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, options.port).into())?;
        let listener = socket.listen(MOST_UNACCEPTED)?;
        let slots = if options.slots == 0 { Semaphore::MAX_PERMITS } else { options.slots };
        let shared = Shared {
            name,
            slots: Arc::new(Semaphore::new(slots)),
            behaviour: Mutex::new(Behaviour::Serve(1.0)),
            gauge: Gauge::new(),
        };
        Ok(Self { address: listener.local_addr()?, listener, shared: Arc::new(shared) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped or no connection can be accepted; connections that are open live on.
    ///
    /// # Errors
    /// When no connection can be accepted.
    pub async fn serve(self) -> io::Result<Infallible> {
        tokio::select! {
            ended = accept(&self.listener, &self.shared) => ended,
            never = self.shared.gauge.sample() => match never {},
        }
    }
}

/// HTTP/2 with prior knowledge for calls; HTTP/1.1 too, for whoever controls it.
async fn accept(listener: &TcpListener, shared: &Arc<Shared>) -> io::Result<Infallible> {
    let connections = TaskTracker::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let shared = Arc::clone(shared);
        let answer = service_fn(move |request: Request<Incoming>| {
            let shared = Arc::clone(&shared);
            async move {
                let (head, mut body) = request.into_parts();
                while body.frame().await.is_some_and(|frame| frame.is_ok()) {}
                Ok::<_, Infallible>(shared.answer(&head).await)
            }
        });
        connections.spawn(async move {
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http2().max_concurrent_streams(MOST_STREAMS);
            // A client that goes away in the middle is no failure of the backend.
            let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl Shared {
    async fn answer(&self, head: &Parts) -> Answer {
        match head.uri.path() {
            "/control" => self.control(head),
            "/grpc.health.v1.Health/Check" => message(Bytes::from_static(SERVING)),
            "/grpc.health.v1.Health/Watch" => failure(UNIMPLEMENTED),
            _ => {
                let mut answer = self.serve(head).await;
                answer.headers_mut().insert("x-backend", self.name.clone());
                answer
            }
        }
    }

    /// One call. When its caller gives up, it is dropped wherever it stands. It counts as in flight until its answer is
    /// there, a stream until its end.
    async fn serve(&self, head: &Parts) -> Answer {
        let counted = self.gauge.enter();
        let behaviour = *self.behaviour();
        let factor = match behaviour {
            Behaviour::Serve(factor) => factor,
            Behaviour::FailFast => return failure(UNAVAILABLE),
            Behaviour::Hang => pending().await,
        };
        let asked = Asked::by(&head.headers);
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        // The shortest sleep lasts up to a millisecond.
        if !asked.service.is_zero() {
            sleep(asked.service.mul_f64(factor)).await;
        }
        match asked.stream {
            Some(stream) => grpc(Ticks::new(stream, asked.bytes, (counted, slot)).boxed_unsync()),
            None => message(plain(asked.bytes)),
        }
    }

    fn control(&self, head: &Parts) -> Answer {
        match text(head, "x-mode") {
            "report" => return http(StatusCode::OK, self.gauge.report().to_string()),
            "reset" => self.gauge.reset(),
            mode => match mode.parse() {
                Ok(behaviour) => *self.behaviour() = behaviour,
                Err(problem) => return http(StatusCode::BAD_REQUEST, problem),
            },
        }
        http(StatusCode::OK, String::new())
    }

    fn behaviour(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text<'a>(head: &'a Parts, header: &str) -> &'a str {
    head.headers.get(header).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn http(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text).boxed_unsync());
    *answer.status_mut() = status;
    answer
}

/// Headers, a message, and OK in the trailers.
fn message(message: Bytes) -> Answer {
    grpc(Full::from(message).with_trailers(ready(Some(Ok(ok())))).boxed_unsync())
}

/// A status other than OK, which is all there is.
fn failure(status: HeaderValue) -> Answer {
    let mut answer = grpc(Full::default().boxed_unsync());
    answer.headers_mut().insert("grpc-status", status);
    answer
}

fn grpc(body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tokio::time::timeout;

    use super::*;

    async fn backend() -> Backend {
        let options = BackendOptions { port: 0, name: "b0".into(), slots: 0 };
        Backend::bind(&options).await.unwrap()
    }

    fn head(path: &str, header: (&str, &str)) -> Parts {
        Request::builder().uri(path).header(header.0, header.1).body(()).unwrap().into_parts().0
    }

    async fn told(backend: &Backend, mode: &str) -> StatusCode {
        backend.shared.answer(&head("/control", ("x-mode", mode))).await.status()
    }

    #[tokio::test]
    async fn it_is_healthy_whatever_it_does() {
        let backend = backend().await;
        for mode in ["well", "slow=10", "fail_fast", "hang"] {
            assert_eq!(told(&backend, mode).await, StatusCode::OK);
            let check = head("/grpc.health.v1.Health/Check", ("te", "trailers"));
            let answer = backend.shared.answer(&check).await;
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), SERVING);
        }
        assert_eq!(told(&backend, "nonsense").await, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn it_takes_the_time_that_is_asked_for_or_more() {
        let backend = backend().await;
        let call = head("/any.Service/Call", ("x-service-us", "20000"));
        for (mode, least) in [("well", 20), ("slow=3", 60)] {
            told(&backend, mode).await;
            let start = Instant::now();
            assert_eq!(backend.shared.answer(&call).await.headers()["x-backend"], "b0");
            assert!(start.elapsed() >= Duration::from_millis(least), "{mode}: {:?}", start.elapsed());
        }
        told(&backend, "fail_fast").await;
        assert_eq!(backend.shared.answer(&call).await.headers()["grpc-status"], "14");
        told(&backend, "hang").await;
        assert!(timeout(Duration::from_millis(100), backend.shared.answer(&call)).await.is_err());
        assert_eq!(backend.shared.gauge.report()["in_flight"], 0, "who gave up is no longer counted");
    }
}
