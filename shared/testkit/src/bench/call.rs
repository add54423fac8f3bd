//! One unary gRPC call, and how it ended.

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use hyper::{HeaderMap, Request, Response, StatusCode, header::CONTENT_TYPE};

use super::connection::Connection;

/// A gRPC message without content.
const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0; 5]);

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    /// `grpc-status: 0`.
    Ok,
    /// Another status of gRPC.
    Grpc(u16),
    /// A status of HTTP that is not 200, or 200 without one of gRPC.
    Http(u16),
    /// The stream was reset, or left behind by GOAWAY.
    Reset,
    /// The connection broke, or none came about.
    Broken,
    /// No end in time.
    Timeout,
}

/// How a call ended, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) ending: Ending,
    /// What `x-backend` says.
    pub(super) backend: Option<String>,
}

impl Answer {
    pub(super) const fn by_nobody(ending: Ending) -> Self {
        Self { ending, backend: None }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Grpc(code) => write!(f, "grpc_{code}"),
            Self::Http(status) => write!(f, "http_{status}"),
            Self::Reset => f.write_str("reset"),
            Self::Broken => f.write_str("broken"),
            Self::Timeout => f.write_str("timeout"),
        }
    }
}

/// The head of a call that asks for a service time.
pub(super) fn request(target: SocketAddr, service: Duration, timeout: Duration) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = hyper::Method::POST;
    *request.uri_mut() = format!("http://{target}/weft.bench.Bench/Call").parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/grpc"));
    headers.insert(hyper::header::TE, hyper::header::HeaderValue::from_static("trailers"));
    // At most 8 digits: milliseconds last for a day.
    let millis = timeout.as_millis().min(99_999_999);
    for (name, value) in
        [("grpc-timeout", format!("{millis}m")), ("x-service-us", service.as_micros().to_string())]
    {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
    request
}

/// Makes the call. Dropped before its end, it resets the stream.
pub(super) async fn call(connection: &Connection, request: Request<()>) -> Answer {
    let Ok(sender) = connection.ready().await else { return Answer::by_nobody(Ending::Broken) };
    exchange(sender, request).await.unwrap_or_else(|error| Answer::by_nobody(of_error(&error)))
}

async fn exchange(mut sender: SendRequest<Bytes>, request: Request<()>) -> Result<Answer, h2::Error> {
    let (response, mut body) = sender.send_request(request, false)?;
    drop(sender);
    body.send_data(EMPTY_MESSAGE, true)?;
    let (head, body) = response.await.map(Response::into_parts)?;
    let backend = head.headers.get("x-backend").and_then(|name| name.to_str().ok()).map(str::to_owned);
    let trailers = finish(body).await;
    let status = grpc_status(&head.headers).or_else(|| grpc_status(trailers.as_ref().ok()?.as_ref()?));
    let ending = match (head.status, status, trailers) {
        (StatusCode::OK, Some(0), _) => Ending::Ok,
        (StatusCode::OK, Some(code), _) => Ending::Grpc(code),
        (_, _, Err(error)) => of_error(&error),
        (status, ..) => Ending::Http(status.as_u16()),
    };
    Ok(Answer { ending, backend })
}

/// Reads a body to its end.
async fn finish(mut body: RecvStream) -> Result<Option<HeaderMap>, h2::Error> {
    while let Some(data) = body.data().await {
        let bytes = data?.len();
        body.flow_control().release_capacity(bytes)?;
    }
    body.trailers().await
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn of_error(error: &h2::Error) -> Ending {
    if error.is_reset() || error.is_go_away() { Ending::Reset } else { Ending::Broken }
}
