//! gRPC-Web: gRPC for clients that see no trailers, which come as a last frame of the body, and where they see no bytes
//! either, all of it as base64.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use weft_mesh::BoxError;

use super::{
    Complaint, Source, become_grpc,
    envelope::{Boundary, CutShort},
};
use crate::forward;

const TYPE: &str = "application/grpc-web";
/// What tells the frame of the trailers from a message.
const TRAILERS: u8 = 0x80;

/// How a client of gRPC-Web writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Web {
    text: bool,
}

impl Web {
    pub(super) fn of(content_type: &str) -> Option<Self> {
        let kind = content_type.get(..TYPE.len()).filter(|kind| kind.eq_ignore_ascii_case(TYPE));
        let rest = kind.and(content_type.get(TYPE.len()..))?.to_ascii_lowercase();
        match rest.strip_prefix("-text").unwrap_or(&rest) {
            "" | "+proto" => Some(Self { text: rest.starts_with("-text") }),
            _ => None,
        }
    }

    /// The request in gRPC.
    pub(crate) fn ask(self, request: Request<Incoming>) -> Request<Source> {
        let (mut parts, body) = request.into_parts();
        become_grpc(&mut parts);
        parts.headers.remove("x-grpc-web");
        let complaint = Complaint::beside(&mut parts);
        let body =
            if self.text { Source::Text(Decoding::new(body, complaint)) } else { Source::Client(body) };
        Request::from_parts(parts, body)
    }

    /// The answer in gRPC-Web. A status in the headers stays there: no trailers follow, and clients look for it.
    pub(crate) fn answer(self, response: Response<forward::Body>) -> Response<forward::Body> {
        let (mut parts, body) = response.into_parts();
        let name = if self.text { "application/grpc-web-text+proto" } else { "application/grpc-web+proto" };
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(name));
        parts.headers.remove(header::CONTENT_LENGTH);
        Response::from_parts(
            parts,
            forward::Body::web(Encoded { inner: Box::new(body), web: self, boundary: Boundary::default() }),
        )
    }
}

/// Text on its way in.
#[derive(Debug)]
pub(crate) struct Decoding {
    inner: Incoming,
    /// Fewer than four digits, which make no bytes yet.
    carry: Vec<u8>,
    complaint: Complaint,
}

/// Text that is no base64.
#[derive(Debug, thiserror::Error)]
#[error("the request's text is not base64")]
pub(crate) struct NotText;

impl Decoding {
    const fn new(inner: Incoming, complaint: Complaint) -> Self {
        Self { inner, carry: Vec::new(), complaint }
    }

    fn decode(carry: &mut Vec<u8>, text: &[u8]) -> Result<Bytes, NotText> {
        carry.extend_from_slice(text);
        let whole = carry.len() / 4 * 4;
        let mut bytes = BytesMut::with_capacity(whole / 4 * 3);
        // Four by four: each piece that a client encoded by itself may end with padding.
        for digits in carry.get(..whole).unwrap_or_default().chunks(4) {
            let mut three = [0; 3];
            let length = STANDARD.decode_slice(digits, &mut three).map_err(|_| NotText)?;
            bytes.extend_from_slice(three.get(..length).unwrap_or_default());
        }
        carry.drain(..whole);
        Ok(bytes.freeze())
    }
}

impl Body for Decoding {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(text) = frame.into_data() else { continue };
                    match Self::decode(&mut this.carry, &text) {
                        Ok(bytes) if bytes.is_empty() => {}
                        Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                        Err(error) => return Poll::Ready(Some(Err(this.complaint.unreadable(&error)))),
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None if this.carry.is_empty() => return Poll::Ready(None),
                None => {
                    this.carry.clear();
                    return Poll::Ready(Some(Err(this.complaint.unreadable(&NotText))));
                }
            }
        }
    }
}

/// A response on its way out.
#[derive(Debug)]
pub(crate) struct Encoded {
    inner: Box<forward::Body>,
    web: Web,
    boundary: Boundary,
}

impl Body for Encoded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let polled = std::task::ready!(Pin::new(&mut *this.inner).poll_frame(cx));
        Poll::Ready(match polled {
            Some(frame) => Some(frame.and_then(|frame| this.written(frame))),
            None if this.boundary.is_reached() => None,
            None => Some(Err(CutShort.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

impl Encoded {
    fn written(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BoxError> {
        let bytes = match frame.into_data() {
            Ok(data) => {
                self.boundary.pass(&data);
                data
            }
            Err(frame) if self.boundary.is_reached() => frame.trailers_ref().map(last).unwrap_or_default(),
            Err(_) => return Err(CutShort.into()),
        };
        Ok(Frame::data(if self.web.text { Bytes::from(STANDARD.encode(&bytes)) } else { bytes }))
    }
}

/// The frame of the trailers: as HTTP/1.1 writes headers.
fn last(trailers: &HeaderMap) -> Bytes {
    let mut text = Vec::new();
    for (name, value) in trailers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    let mut frame = BytesMut::with_capacity(5 + text.len());
    frame.put_u8(TRAILERS);
    frame.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&text);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn content_types_are_told_apart() {
        let text = |content_type| Web::of(content_type).map(|web| web.text);
        assert_eq!(text("application/grpc-web"), Some(false));
        assert_eq!(text("application/grpc-web+proto"), Some(false));
        assert_eq!(text("application/grpc-web-text"), Some(true));
        assert_eq!(text("Application/gRPC-Web-Text+Proto"), Some(true));
        for other in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-web+json",
            "application/grpc-webx",
        ] {
            assert_eq!(text(other), None, "{other}");
        }
    }

    #[test]
    fn trailers_are_a_frame_of_their_own() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        assert_eq!(
            last(&trailers),
            "\u{80}\0\0\0\x10grpc-status: 0\r\n".chars().map(|c| c as u8).collect::<Vec<_>>()
        );
    }

    proptest! {
        /// However the text is cut, and however often it was padded.
        #[test]
        fn text_comes_in_any_pieces(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5),
            cut in 1_usize..7,
        ) {
            let text: String = pieces.iter().map(|piece| STANDARD.encode(piece)).collect();
            let (mut carry, mut bytes) = (Vec::new(), Vec::new());
            for part in text.as_bytes().chunks(cut) {
                bytes.extend_from_slice(&Decoding::decode(&mut carry, part).unwrap());
            }
            prop_assert_eq!((bytes, carry.is_empty()), (pieces.concat(), true));
        }

        #[test]
        fn anything_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Decoding::decode(&mut Vec::new(), &text);
        }
    }
}
