//! A request's body held whole, because the model that it names may stand at its end.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};
use weft_mesh::BoxError;

use super::model::{Problem, find};
use crate::translate::{Buffers, Held, Source, TooMuch};

/// How long a client may send nothing of a body that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take for all of it: what it holds until then, others cannot.
const TOTAL_PATIENCE: Duration = Duration::from_secs(120);
/// From how many bytes on a body is large: reading it takes two tenths of a millisecond.
const LARGE: usize = 256 * 1024;

/// A body that was read to its end. Counts as held until it is dropped, which is when it has been sent.
#[derive(Debug)]
pub(crate) struct Whole {
    bytes: Bytes,
    _held: Held,
}

impl Whole {
    /// All of it; empty once it has been sent.
    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The model that it names. A large one is read beside the thread that forwards, where streams would wait for it.
    ///
    /// # Errors
    /// See [`Problem`].
    pub(crate) async fn model(&self) -> Result<String, Problem> {
        if self.bytes.len() < LARGE {
            return find(&self.bytes);
        }
        let bytes = self.bytes.clone();
        let found = tokio::task::spawn_blocking(move || find(&bytes)).await;
        found.unwrap_or_else(|error| Err(Problem::Unreadable(error.to_string())))
    }
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It is larger than it may be.
    TooLarge,
    /// Too much is held already.
    TooMuch,
    /// Its client sends nothing more of it.
    Late,
    /// Its client is gone.
    Broken,
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// See [`Unread`]. Nothing of it is held then.
pub(crate) async fn read(mut body: Source, limit: u64, buffers: &Buffers) -> Result<Whole, Unread> {
    if body.size_hint().lower() > limit {
        return Err(Unread::TooLarge);
    }
    let deadline = Instant::now() + TOTAL_PATIENCE;
    let mut held = buffers.hold_up_to(usize::try_from(limit).unwrap_or(usize::MAX));
    // What is not sent takes no memory: pages count when they are written.
    let mut bytes = BytesMut::with_capacity(usize::try_from(body.size_hint().lower()).unwrap_or_default());
    loop {
        let until = deadline.min(Instant::now() + PATIENCE);
        let Ok(frame) = timeout_at(until, body.frame()).await else { return Err(Unread::Late) };
        let Some(frame) = frame else { return Ok(Whole { bytes: bytes.freeze(), _held: held }) };
        let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
        held.set(bytes.len() + data.len()).map_err(|problem| match problem {
            TooMuch::Message => Unread::TooLarge,
            TooMuch::Total => Unread::TooMuch,
        })?;
        bytes.extend_from_slice(&data);
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(buffers: &Buffers, length: usize) -> Source {
        Source::Whole(Box::new(Whole { bytes: vec![7; length].into(), _held: buffers.hold_up_to(0) }))
    }

    #[tokio::test]
    async fn a_body_counts_as_held_until_it_is_gone() {
        let buffers = Buffers::default();
        let whole = read(source(&buffers, 1000), 1000, &buffers).await.unwrap();
        assert_eq!((whole.bytes().len(), buffers.held_bytes()), (1000, 1000));
        let mut sent = Source::Whole(Box::new(whole));
        assert_eq!(sent.size_hint().exact(), Some(1000));
        assert_eq!(sent.frame().await.unwrap().unwrap().into_data().unwrap().len(), 1000);
        assert!(sent.is_end_stream() && sent.frame().await.is_none());
        assert_eq!(buffers.held_bytes(), 1000, "whoever sends it has it still");
        drop(sent);
        assert_eq!(buffers.held_bytes(), 0);
    }

    #[tokio::test]
    async fn more_than_may_be_held_is_refused_and_nothing_stays_counted() {
        let buffers = Buffers::default();
        assert_eq!(read(source(&buffers, 1001), 1000, &buffers).await.unwrap_err(), Unread::TooLarge);
        let mut others = buffers.hold_up_to(usize::MAX);
        others.set(crate::translate::TOTAL_LIMIT - 999).unwrap();
        assert_eq!(read(source(&buffers, 1000), 1000, &buffers).await.unwrap_err(), Unread::TooMuch);
        drop(others);
        assert_eq!(buffers.held_bytes(), 0);
        read(source(&buffers, 1000), 1000, &buffers).await.unwrap();
    }
}
