//! The Connect protocol with one message each way: a plain POST and its answer.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request};
use http_body::{Body as HttpBody, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use prost_reflect::{MessageDescriptor, MethodDescriptor};
use weft_mesh::BoxError;

use super::{
    Buffers, Codec, Complaint, Source, become_grpc,
    buffer::{Held, Patience, TooMuch},
    codes::{Code, Failure},
    contracts::{from_json, to_json},
    envelope::{COMPRESSED, Reader, wrap},
};
use crate::forward::Body;

/// A call on its way: what its answer is to be written in.
pub(crate) struct Unary {
    codec: Codec,
    method: MethodDescriptor,
    buffers: Buffers,
}

impl Unary {
    /// The request in gRPC, or the answer that refuses it.
    pub(crate) fn ask(
        request: Request<Incoming>,
        codec: Codec,
        method: MethodDescriptor,
        buffers: &Buffers,
    ) -> Result<(Self, Request<Source>), Box<Response<Body>>> {
        if method.is_client_streaming() || method.is_server_streaming() {
            return Err(Box::new(unsupported("application/connect+json, application/connect+proto")));
        }
        let (mut parts, body) = request.into_parts();
        let encoding = parts.headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| encoding != "identity") {
            let failure = Failure::new(Code::Unimplemented, "messages are not taken compressed");
            return Err(Box::new(failure.response()));
        }
        ask_in_grpc(&mut parts).map_err(|failure| Box::new(failure.response()))?;
        let message = Message {
            inner: Some(body),
            bytes: BytesMut::new(),
            held: buffers.hold(),
            patience: Patience::default(),
            json: (codec == Codec::Json).then(|| method.input()),
            complaint: Complaint::beside(&mut parts),
        };
        let call = Self { codec, method, buffers: buffers.clone() };
        Ok((call, Request::from_parts(parts, Source::Message(Box::new(message)))))
    }

    /// The answer in the client's words.
    pub(crate) async fn answer(self, response: Response<Body>) -> Response<Body> {
        let (parts, body) = response.into_parts();
        let (message, trailers) = self.read(&parts.headers, parts.status, body).await;
        let mut answered = match message {
            Ok(message) => {
                let mut response = Response::new(Body::full(Bytes::from(message)));
                let name = HeaderValue::from_static(match self.codec {
                    Codec::Json => "application/json",
                    Codec::Proto => "application/proto",
                });
                response.headers_mut().insert(header::CONTENT_TYPE, name);
                response
            }
            Err(failure) => failure.response(),
        };
        let headers = answered.headers_mut();
        for (name, value) in metadata(&parts.headers) {
            headers.append(name.clone(), value.clone());
        }
        for (name, value) in metadata(&trailers) {
            if let Ok(name) = HeaderName::try_from(format!("trailer-{name}")) {
                headers.append(name, value.clone());
            }
        }
        answered
    }

    /// Reads the answer to its end: its message in the client's codec, and its trailers.
    async fn read(
        &self,
        headers: &HeaderMap,
        status: StatusCode,
        mut body: Body,
    ) -> (Result<Vec<u8>, Failure>, HeaderMap) {
        let (mut reader, mut message, mut trailers) = (Reader::new(&self.buffers), None, HeaderMap::new());
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return (Err(broken(Code::Unavailable, "broke off")), trailers) };
            match frame.into_data() {
                Ok(data) => {
                    reader.push(&data);
                    match reader.next() {
                        Ok(next) => message = message.or(next),
                        Err(problem) => return (Err(too_much(&problem)), trailers),
                    }
                }
                Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
        let said = if trailers.contains_key("grpc-status") { &trailers } else { headers };
        match Failure::of(said, status) {
            Some(failure) => (Err(failure), trailers),
            None => (self.written(message), trailers),
        }
    }

    fn written(&self, message: Option<(u8, Bytes)>) -> Result<Vec<u8>, Failure> {
        let Some((kind, message)) = message else { return Err(broken(Code::Internal, "has no message")) };
        if kind & COMPRESSED != 0 {
            return Err(broken(Code::Internal, "is compressed, unasked"));
        }
        match self.codec {
            Codec::Json => to_json(self.method.output(), &message)
                .map_err(|problem| broken(Code::Internal, &format!("is not of its contract: {problem}"))),
            Codec::Proto => Ok(message.to_vec()),
        }
    }
}

fn broken(code: Code, problem: &str) -> Failure {
    Failure::new(code, format!("the answer {problem}"))
}

fn too_much(problem: &TooMuch) -> Failure {
    Failure::new(Code::ResourceExhausted, problem.to_string())
}

/// One message on its way in, which is read whole before the first byte of it goes on.
#[derive(Debug)]
pub(crate) struct Message {
    /// `None` once it has been read.
    inner: Option<Incoming>,
    bytes: BytesMut,
    held: Held,
    patience: Patience,
    /// What it is, where it has to become protobuf.
    json: Option<MessageDescriptor>,
    complaint: Complaint,
}

impl Message {
    fn written(&mut self) -> Result<Bytes, BoxError> {
        let bytes = std::mem::take(&mut self.bytes);
        self.held.clear();
        let Some(message) = self.json.take() else { return Ok(wrap(0, &bytes)) };
        let message = from_json(message, &bytes).map_err(|problem| self.complaint.unreadable(&problem))?;
        Ok(wrap(0, &message))
    }
}

impl HttpBody for Message {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
            match Pin::new(inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if let Err(problem) = this.held.set(this.bytes.len() + data.len()) {
                        this.inner = None;
                        return Poll::Ready(Some(Err(this.complaint.too_much(&problem))));
                    }
                    this.bytes.extend_from_slice(&data);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => {
                    this.inner = None;
                    return Poll::Ready(Some(this.written().map(Frame::data)));
                }
                Poll::Pending if this.patience.is_over(true, cx) => {
                    this.inner = None;
                    return Poll::Ready(Some(Err(this.complaint.unreadable(&"it did not come in time"))));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_none()
    }
}

/// Metadata, and nothing of the transport.
fn metadata(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    let own = |name: &HeaderName| {
        let transport =
            [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::DATE];
        name.as_str().starts_with("grpc-") || transport.contains(name)
    };
    headers.iter().filter(move |(name, _)| !own(name))
}

/// The content type is not that of such a method.
pub(super) fn unsupported(accepted: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("accept-post"), HeaderValue::from_static(accepted));
    response
}

/// Asks in gRPC's own headers, with how much time the client gives. Answers are not to be compressed: what is read here
/// would have to be unpacked.
pub(super) fn ask_in_grpc(parts: &mut request::Parts) -> Result<(), Failure> {
    let headers = &mut parts.headers;
    for name in ["connect-protocol-version", "grpc-encoding", "grpc-accept-encoding"] {
        headers.remove(name);
    }
    if let Some(value) = headers.remove("connect-timeout-ms") {
        // At most ten digits, as the protocol has it.
        let text = value.to_str().ok().filter(|text| text.len() <= 10);
        let Some(time) = text.and_then(|text| text.parse::<u64>().ok()).map(Duration::from_millis) else {
            let problem = "connect-timeout-ms: is no number of at most 10 digits";
            return Err(Failure::new(Code::InvalidArgument, problem));
        };
        if let Ok(value) = HeaderValue::try_from(weft_mesh::timeout::encode(time)) {
            headers.insert(weft_mesh::context::TIMEOUT_HEADER, value);
        }
    }
    become_grpc(parts);
    Ok(())
}
