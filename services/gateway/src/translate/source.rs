//! The body of a request, as gRPC has it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use weft_mesh::BoxError;

use super::{stream::Asked, unary::Message, web::Decoding};
use crate::openai::Whole;

/// The body of a request.
#[derive(Debug)]
pub(crate) enum Source {
    /// As its client sends it.
    Client(Incoming),
    /// Text of gRPC-Web.
    Text(Decoding),
    /// One message of the Connect protocol.
    Message(Box<Message>),
    /// Messages in JSON.
    Json(Box<Asked>),
    /// As its client has sent it, all of it.
    Whole(Box<Whole>),
}

impl Source {
    /// Whether it is in memory anyway.
    pub(crate) const fn is_held(&self) -> bool {
        matches!(self, Self::Whole(_))
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Client(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Text(body) => Pin::new(body).poll_frame(cx),
            Self::Message(body) => Pin::new(&mut **body).poll_frame(cx),
            Self::Json(body) => Pin::new(&mut **body).poll_frame(cx),
            Self::Whole(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(body) => body.is_end_stream(),
            Self::Message(body) => body.is_end_stream(),
            Self::Whole(body) => body.is_end_stream(),
            Self::Text(_) | Self::Json(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Client(body) => body.size_hint(),
            Self::Whole(body) => body.size_hint(),
            Self::Text(_) | Self::Message(_) | Self::Json(_) => SizeHint::default(),
        }
    }
}
