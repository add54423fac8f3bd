//! A request body on its way in: counted, limited, and a sign of life.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use weft_mesh::{BoxError, terms::Activity};

use crate::translate::Source;

/// What is known of a request's body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received(Arc<AtomicU64>);

impl Received {
    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts some that did not come as a body.
    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// More of a body than is taken.
#[derive(Debug, thiserror::Error)]
#[error("the request is larger than {limit} bytes")]
pub(crate) struct TooLarge {
    pub(crate) limit: u64,
}

/// A client's request body.
#[derive(Debug)]
pub(crate) struct Metered {
    inner: Source,
    received: Received,
    /// In bytes.
    limit: u64,
    activity: Option<Activity>,
}

impl Metered {
    pub(crate) const fn new(
        inner: Source,
        received: Received,
        limit: u64,
        activity: Option<Activity>,
    ) -> Self {
        Self { inner, received, limit, activity }
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            let received = self.received.0.fetch_add(length, Ordering::Relaxed) + length;
            if let Some(activity) = &self.activity {
                activity.touch();
            }
            if received > self.limit {
                return Poll::Ready(Some(Err(TooLarge { limit: self.limit }.into())));
            }
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
