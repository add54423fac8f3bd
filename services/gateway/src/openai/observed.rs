//! An answer on its way back, looked at as it passes: when its first token came, and how fast the others.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, Response, header};
use http_body::{Body, Frame, SizeHint};
use opentelemetry::KeyValue;
use weft_mesh::BoxError;

use super::{Operation, tokens::Events};
use crate::{forward, metrics::Tokens};

/// What is measured of one call.
#[derive(Debug)]
pub(crate) struct Watch {
    measured: Tokens,
    labels: [KeyValue; 3],
    /// When its request came.
    began: Instant,
    /// Of an answer that comes as events.
    events: Option<Events>,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Watch {
    /// Of a call that began then.
    pub(crate) fn new(
        measured: &Tokens,
        began: Instant,
        operation: Operation,
        pool: &str,
        model: String,
    ) -> Self {
        let labels = [
            KeyValue::new("pool", pool.to_owned()),
            KeyValue::new("gen_ai.operation.name", operation.label()),
            KeyValue::new("gen_ai.request.model", model),
        ];
        Self { measured: measured.clone(), labels, began, events: None, first: None, last: None }
    }

    /// The same answer, looked at if it is one of a server that succeeded.
    pub(crate) fn over(mut self, response: Response<forward::Body>) -> Response<forward::Body> {
        if !response.status().is_success() {
            return response;
        }
        self.events = is_events(response.headers()).then(Events::default);
        response.map(|body| forward::Body::observed(Observed { inner: Box::new(body), watch: self }))
    }

    fn see(&mut self, data: &[u8]) {
        let is_event = match &mut self.events {
            Some(events) => events.push(data),
            None => self.first.is_none() && !data.is_empty(),
        };
        if !is_event {
            return;
        }
        let now = Instant::now();
        if self.first.is_none() {
            self.first = Some(now);
            self.measured.first(&self.labels, now - self.began);
        }
        self.last = Some(now);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let (Some(events), Some(first), Some(last)) = (&self.events, self.first, self.last) else { return };
        // The first one is what the others are counted from.
        let (further, seconds) = (events.tokens().saturating_sub(1), (last - first).as_secs_f64());
        if further > 0 && seconds > 0.0 {
            self.measured.rate(&self.labels, further as f64 / seconds);
        }
    }
}

/// Events that can be read: neither another kind of answer, nor a compressed one.
fn is_events(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    let name = b"text/event-stream";
    let is = kind.and_then(|kind| kind.get(..name.len())).is_some_and(|kind| kind.eq_ignore_ascii_case(name));
    is && !headers.contains_key(header::CONTENT_ENCODING)
}

/// An answer that is looked at.
#[derive(Debug)]
pub(crate) struct Observed {
    inner: Box<forward::Body>,
    watch: Watch,
}

impl Body for Observed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = std::task::ready!(Pin::new(&mut *self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.watch.see(data);
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
