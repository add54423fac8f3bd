//! The body of a stream: its messages when they are due, then OK in the trailers.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::{
    HeaderMap,
    body::{Body, Frame},
    header::HeaderValue,
};
use tokio::time::{Interval, interval};

use super::{asked::Stream, message};

/// One answer. Times are kept to the millisecond, so that messages of several streams leave together; those that are late
/// are sent at once, and none is left out.
#[derive(Debug)]
pub(super) struct Ticks<Held> {
    messages: u64,
    bytes: usize,
    due: Interval,
    sent: u64,
    ended: bool,
    /// What the stream occupies until its body is dropped.
    _held: Held,
}

/// `grpc-status: 0`.
pub(super) fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers
}

impl<Held> Ticks<Held> {
    /// Begins now.
    pub(super) fn new(stream: Stream, bytes: usize, held: Held) -> Self {
        let due = interval(stream.interval);
        Self { messages: stream.messages, bytes, due, sent: 0, ended: false, _held: held }
    }
}

impl<Held: Unpin> Body for Ticks<Held> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.sent == self.messages {
            self.ended = true;
            return Poll::Ready(Some(Ok(Frame::trailers(ok()))));
        }
        ready!(self.due.poll_tick(context));
        let message = message::stamped(self.sent, self.bytes);
        self.sent += 1;
        Poll::Ready(Some(Ok(Frame::data(message))))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn messages_come_in_time_and_the_trailers_with_the_last_one() {
        let (start, held) = (Instant::now(), Arc::new(()));
        let stream = Stream { messages: 3, interval: Duration::from_millis(20) };
        let body = Ticks::new(stream, 30, Arc::clone(&held)).collect().await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(40), "{:?}", start.elapsed());
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        let mut received = message::Received::default();
        assert_eq!(received.take(&body.to_bytes()), Ok(()));
        assert_eq!(received.into_late_ms().len(), 3);
        assert_eq!(Arc::strong_count(&held), 1, "it holds nothing after its end");
    }

    #[tokio::test]
    async fn a_stream_may_be_empty() {
        let stream = Stream { messages: 0, interval: Duration::from_secs(3600) };
        let body = Ticks::new(stream, 0, ()).collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert!(body.to_bytes().is_empty());
    }
}
