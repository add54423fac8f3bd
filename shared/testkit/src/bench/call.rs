//! One gRPC call with one message, and how it ended.

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, TE},
};

use super::{asked::Asked, connection::Connection, message::Garbled};

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
    /// What came were not the messages of the stream.
    Garbled,
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
            Self::Garbled => f.write_str("garbled"),
            Self::Timeout => f.write_str("timeout"),
        }
    }
}

impl From<h2::Error> for Ending {
    fn from(error: h2::Error) -> Self {
        if error.is_reset() || error.is_go_away() { Self::Reset } else { Self::Broken }
    }
}

impl From<Garbled> for Ending {
    fn from(_: Garbled) -> Self {
        Self::Garbled
    }
}

/// The head of a call that is to be answered as asked.
pub(super) fn request(target: SocketAddr, asked: &Asked, timeout: Duration) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = hyper::Method::POST;
    *request.uri_mut() = format!("http://{target}/weft.bench.Bench/Call").parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    // At most 8 digits: milliseconds last for a day.
    let millis = timeout.as_millis().min(99_999_999);
    if let Ok(timeout) = format!("{millis}m").parse() {
        headers.insert("grpc-timeout", timeout);
    }
    headers.extend(asked.headers().map(|(name, value)| (HeaderName::from_static(name), value)));
    request
}

/// Makes the call, and hands on what comes of the answer's body. Dropped before its end, it resets the stream.
pub(super) async fn call(
    connection: &Connection,
    request: Request<()>,
    message: Bytes,
    take: impl FnMut(&[u8]) -> Result<(), Garbled>,
) -> Answer {
    let Ok(sender) = connection.ready().await else { return Answer::by_nobody(Ending::Broken) };
    exchange(sender, request, message, take).await.unwrap_or_else(Answer::by_nobody)
}

async fn exchange(
    mut sender: SendRequest<Bytes>,
    request: Request<()>,
    message: Bytes,
    mut take: impl FnMut(&[u8]) -> Result<(), Garbled>,
) -> Result<Answer, Ending> {
    let (response, mut body) = sender.send_request(request, false)?;
    drop(sender);
    body.send_data(message, true)?;
    let (head, body) = response.await.map(Response::into_parts)?;
    let backend = head.headers.get("x-backend").and_then(|name| name.to_str().ok()).map(str::to_owned);
    // The body of any other answer is somebody's page about an error.
    let is_answer = head.status == StatusCode::OK;
    let trailers = finish(body, |piece| if is_answer { take(piece) } else { Ok(()) }).await;
    let status = grpc_status(&head.headers).or_else(|| grpc_status(trailers.as_ref().ok()?.as_ref()?));
    let ending = match (head.status, status, trailers) {
        (StatusCode::OK, Some(0), _) => Ending::Ok,
        (StatusCode::OK, Some(code), _) => Ending::Grpc(code),
        (_, _, Err(ending)) => ending,
        (status, ..) => Ending::Http(status.as_u16()),
    };
    Ok(Answer { ending, backend })
}

/// Reads a body to its end.
async fn finish(
    mut body: RecvStream,
    mut take: impl FnMut(&[u8]) -> Result<(), Garbled>,
) -> Result<Option<HeaderMap>, Ending> {
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        take(&data)?;
    }
    Ok(body.trailers().await?)
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
