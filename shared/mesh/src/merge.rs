//! Small frames of a stream joined as they are passed on.
//!
//! Token streams come as many tiny DATA frames. Those that are there already are passed on as one: nobody waits for
//! more, and a peer that counts unread small frames as a flood (h2 ≥ 0.4.16 ends the whole connection) sees few.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

use crate::{BoxError, poll_full_frame};

/// Frames below this size are joined; copying larger ones costs more than their frame header.
const SMALL_BYTES: usize = 4 * 1024;
/// The largest joined frame: HTTP/2's default frame size.
const JOINED_BYTES: usize = 16 * 1024;

type Polled = Option<Result<Frame<Bytes>, BoxError>>;

/// Small frames that were read and not passed on.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    One(Bytes),
    Joined(BytesMut),
}

/// A body whose small frames are joined.
#[derive(Debug)]
pub struct Merged<B> {
    inner: B,
    held: Held,
    /// Found while looking for more; follows what is held.
    next: Option<Polled>,
}

impl<B> Merged<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    /// Joins the small frames of a body.
    pub const fn new(inner: B) -> Self {
        Self { inner, held: Held::Nothing, next: None }
    }

    /// The body itself.
    pub const fn inner(&self) -> &B {
        &self.inner
    }

    /// The body itself, but to read it.
    pub const fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Waits for the first frame, or the end, and keeps it to be read.
    pub async fn peek(&mut self) {
        if self.next.is_none() && !self.inner.is_end_stream() {
            self.next = Some(std::future::poll_fn(|cx| self.poll_inner(cx)).await);
        }
    }

    /// Waits for the end and keeps what comes before it, as long as it is small enough to be joined.
    pub async fn hold(&mut self) {
        std::future::poll_fn(|cx| self.poll_held(cx)).await;
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.next.is_none() && !self.inner.is_end_stream() {
            let polled = std::task::ready!(self.poll_inner(cx));
            match polled {
                Some(Ok(frame)) if self.held.has_room_for(&frame) => self.held.add(frame),
                other => self.next = Some(other),
            }
        }
        Poll::Ready(())
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Polled> {
        poll_full_frame(Pin::new(&mut self.inner), cx).map_err(Into::into)
    }
}

impl Held {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(data) => data.len(),
            Self::Joined(data) => data.len(),
        }
    }

    fn has_room_for(&self, frame: &Frame<Bytes>) -> bool {
        let small = |data: &Bytes| data.len() < SMALL_BYTES && self.len() + data.len() <= JOINED_BYTES;
        frame.data_ref().is_some_and(small)
    }

    fn add(&mut self, frame: Frame<Bytes>) {
        let Ok(data) = frame.into_data() else { return };
        match self {
            Self::Nothing => *self = Self::One(data),
            Self::One(first) => {
                let mut joined = BytesMut::from(&first[..]);
                joined.extend_from_slice(&data);
                *self = Self::Joined(joined);
            }
            Self::Joined(joined) => joined.extend_from_slice(&data),
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        match std::mem::take(self) {
            Self::Nothing => None,
            Self::One(data) => Some(data),
            Self::Joined(data) => Some(data.freeze()),
        }
    }

    const fn is_empty(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

impl<B> Body for Merged<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
        // It stays pending only at what is not there yet.
        let looked = self.poll_held(cx);
        if let Some(held) = self.held.take() {
            return Poll::Ready(Some(Ok(Frame::data(held))));
        }
        if let Some(next) = self.next.take() {
            return Poll::Ready(next);
        }
        looked.map(|()| None)
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty()
            && match &self.next {
                Some(next) => next.is_none(),
                None => self.inner.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        let fresh = self.held.is_empty() && self.next.is_none();
        if fresh { self.inner.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible};

    use http::HeaderMap;
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;

    use super::*;

    /// Gives frames of these sizes; 0 means that it has to be asked again.
    struct Stuttering {
        sizes: VecDeque<usize>,
        trailers: bool,
        given: u8,
    }

    impl Body for Stuttering {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.sizes.pop_front() {
                Some(0) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Some(size) => {
                    self.given = self.given.wrapping_add(1);
                    Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![self.given; size])))))
                }
                None if self.trailers => {
                    self.trailers = false;
                    Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::new()))))
                }
                None => Poll::Ready(None),
            }
        }
    }

    async fn read(sizes: &[usize], trailers: bool) -> (Vec<usize>, Vec<u8>, bool) {
        let body = Stuttering { sizes: sizes.iter().copied().collect(), trailers, given: 0 };
        let mut merged = Merged::new(body);
        let (mut lengths, mut bytes, mut ended) = (Vec::new(), Vec::new(), false);
        while let Some(Ok(frame)) = merged.frame().await {
            assert!(!ended, "nothing follows the trailers");
            match frame.into_data() {
                Ok(data) => {
                    lengths.push(data.len());
                    bytes.extend_from_slice(&data);
                }
                Err(_) => ended = true,
            }
        }
        (lengths, bytes, ended)
    }

    #[tokio::test]
    async fn what_is_there_is_joined_and_nothing_is_waited_for() {
        assert_eq!(read(&[20; 100], true).await.0, [2000]);
        assert_eq!(read(&[20, 20, 0, 20], true).await.0, [40, 20]);
        assert_eq!(read(&[20, 5000, 20, 20], true).await.0, [20, 5000, 40]);
        assert_eq!(read(&[4000; 5], false).await.0, [16_000, 4000]);
    }

    proptest! {
        /// Joined or not, the bytes and the trailers are the same.
        #[test]
        fn the_bytes_stay_as_they_are(sizes in prop::collection::vec(0_usize..6000, 0..40), trailers: bool) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (lengths, bytes, ended) = runtime.block_on(read(&sizes, trailers));
            let mut expected = Vec::new();
            for (i, size) in sizes.iter().filter(|size| **size > 0).enumerate() {
                expected.extend(std::iter::repeat_n((i + 1) as u8, *size));
            }
            prop_assert_eq!(bytes, expected);
            prop_assert_eq!(ended, trailers);
            prop_assert!(lengths.iter().all(|length| *length <= JOINED_BYTES));
        }
    }
}
