//! The Connect protocol with messages in envelopes, which are those of gRPC, and an end that says how it went.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use prost_reflect::{MessageDescriptor, MethodDescriptor};
use serde_json::{Map, Value, json};
use weft_mesh::BoxError;

use super::{
    Buffers, Codec, Complaint, Source,
    buffer::Patience,
    codes::{Code, Failure},
    contracts::{from_json, to_json},
    envelope::{Boundary, COMPRESSED, CutShort, Reader, wrap},
    unary::{ask_in_grpc, unsupported},
};
use crate::forward;

/// The envelope of the end.
const END: u8 = 2;

/// A call on its way: what its answer is to be written in.
pub(crate) struct Streaming {
    codec: Codec,
    method: MethodDescriptor,
    buffers: Buffers,
}

impl Streaming {
    /// The request in gRPC, or the answer that refuses it.
    pub(crate) fn ask(
        request: Request<Incoming>,
        codec: Codec,
        method: MethodDescriptor,
        buffers: &Buffers,
    ) -> Result<(Self, Request<Source>), Box<Response<forward::Body>>> {
        let call = Self { codec, method, buffers: buffers.clone() };
        if !call.method.is_client_streaming() && !call.method.is_server_streaming() {
            return Err(Box::new(unsupported("application/json, application/proto")));
        }
        let (mut parts, body) = request.into_parts();
        let encoding = parts.headers.remove("connect-content-encoding");
        parts.headers.remove("connect-accept-encoding");
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return Err(Box::new(
                call.failed(&Failure::new(Code::Unimplemented, "messages are not taken compressed")),
            ));
        }
        if let Err(failure) = ask_in_grpc(&mut parts) {
            return Err(Box::new(call.failed(&failure)));
        }
        let body = match codec {
            Codec::Proto => Source::Client(body),
            Codec::Json => {
                let (reader, patience) = (Reader::new(buffers), Patience::default());
                let (message, complaint) = (call.method.input(), Complaint::beside(&mut parts));
                Source::Json(Box::new(Asked { inner: body, reader, patience, message, complaint }))
            }
        };
        Ok((call, Request::from_parts(parts, body)))
    }

    /// The answer in the client's words.
    pub(crate) fn answer(self, response: Response<forward::Body>) -> Response<forward::Body> {
        let (mut parts, body) = response.into_parts();
        // A status in the headers is all there is, be it only that of HTTP.
        let status = parts.headers.contains_key("grpc-status") || !parts.status.is_success();
        let last = status.then(|| end(&parts.headers, parts.status, &HeaderMap::new()));
        parts.status = StatusCode::OK;
        let said: Vec<_> =
            parts.headers.keys().filter(|name| name.as_str().starts_with("grpc-")).cloned().collect();
        said.iter().for_each(|name| drop(parts.headers.remove(name)));
        parts.headers.remove(header::CONTENT_LENGTH);
        self.name(&mut parts.headers);
        let message = (self.codec == Codec::Json).then(|| self.method.output());
        let inner = Box::new(body);
        let (reader, boundary) = (Reader::new(&self.buffers), Boundary::default());
        let streamed = Streamed { inner, reader, boundary, message, last, ended: false };
        Response::from_parts(parts, forward::Body::streamed(streamed))
    }

    fn failed(&self, failure: &Failure) -> Response<forward::Body> {
        let last = wrap(END, json!({ "error": failure.json() }).to_string().as_bytes());
        let mut response = Response::new(forward::Body::full(last));
        self.name(response.headers_mut());
        response
    }

    fn name(&self, headers: &mut HeaderMap) {
        if let Ok(name) = HeaderValue::try_from(format!("application/connect+{}", self.codec.name())) {
            headers.insert(header::CONTENT_TYPE, name);
        }
    }
}

/// The last envelope: how it went, and the trailing metadata.
fn end(said: &HeaderMap, status: StatusCode, trailers: &HeaderMap) -> Bytes {
    let mut end = Map::new();
    if let Some(failure) = Failure::of(said, status) {
        end.insert("error".to_owned(), failure.json());
    }
    let mut metadata = Map::new();
    for name in trailers.keys().filter(|name| !name.as_str().starts_with("grpc-")) {
        let values = trailers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        metadata.insert(name.to_string(), values.map(Value::from).collect());
    }
    if !metadata.is_empty() {
        end.insert("metadata".to_owned(), metadata.into());
    }
    wrap(END, Value::from(end).to_string().as_bytes())
}

/// Messages in JSON on their way in.
#[derive(Debug)]
pub(crate) struct Asked {
    inner: Incoming,
    reader: Reader,
    patience: Patience,
    message: MessageDescriptor,
    complaint: Complaint,
}

impl Asked {
    fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        let complaint = &self.complaint;
        match self.reader.next().map_err(|problem| complaint.too_much(&problem))? {
            None => Ok(None),
            Some((0, json)) => {
                let message = from_json(self.message.clone(), &json);
                let message = message.map_err(|problem| complaint.unreadable(&problem))?;
                Ok(Some(wrap(0, &message)))
            }
            Some(_) => Err(complaint.unreadable(&"a message is compressed, or of an unknown kind")),
        }
    }
}

impl Body for Asked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(next) = self.next().transpose() {
                return Poll::Ready(Some(next.map(Frame::data)));
            }
            let this = &mut *self;
            let problem = match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        this.reader.push(&data);
                    }
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) if this.reader.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) => "it broke off within a message",
                Poll::Pending => {
                    if !this.patience.is_over(!this.reader.is_empty(), cx) {
                        return Poll::Pending;
                    }
                    "a message did not come in time"
                }
            };
            return Poll::Ready(Some(Err(this.complaint.unreadable(&problem))));
        }
    }
}

/// An answer on its way out.
#[derive(Debug)]
pub(crate) struct Streamed {
    inner: Box<forward::Body>,
    reader: Reader,
    boundary: Boundary,
    /// What messages are, where they become JSON.
    message: Option<MessageDescriptor>,
    /// The end, where it is known before.
    last: Option<Bytes>,
    ended: bool,
}

impl Streamed {
    /// What becomes of some bytes of gRPC.
    fn written(&mut self, data: Bytes) -> Result<Bytes, String> {
        self.boundary.pass(&data);
        let Some(message) = &self.message else { return Ok(data) };
        self.reader.push(&data);
        let mut written = BytesMut::new();
        while let Some((kind, bytes)) = self.reader.next().map_err(|error| error.to_string())? {
            if kind & COMPRESSED != 0 {
                return Err("it is compressed, unasked".to_owned());
            }
            written.extend_from_slice(&wrap(0, &to_json(message.clone(), &bytes)?));
        }
        Ok(written.freeze())
    }

    /// Ends it with the last envelope. Within a message of which part has been passed on, that would be read as the rest.
    fn end(&mut self, last: Bytes) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.ended = true;
        if self.message.is_none() && !self.boundary.is_reached() {
            return Poll::Ready(Some(Err(CutShort.into())));
        }
        Poll::Ready(Some(Ok(Frame::data(last))))
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            match std::task::ready!(Pin::new(&mut *self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => match self.written(data) {
                        Ok(written) if written.is_empty() => {}
                        Ok(written) => return Poll::Ready(Some(Ok(Frame::data(written)))),
                        Err(problem) => {
                            let failure = Failure::new(
                                Code::Internal,
                                format!("a message cannot be written: {problem}"),
                            );
                            let last = json!({ "error": failure.json() }).to_string();
                            return self.end(wrap(END, last.as_bytes()));
                        }
                    },
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return self.end(end(&trailers, StatusCode::OK, &trailers));
                    }
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let nothing = HeaderMap::new();
                    let last = self.last.take();
                    return self.end(last.unwrap_or_else(|| end(&nothing, StatusCode::OK, &nothing)));
                }
            }
        }
    }
}
