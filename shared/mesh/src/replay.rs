//! A request body that can be sent again, as long as what was sent of it is small.
//!
//! Frames are kept, by reference count, while nobody has answered yet. Past the limit they are let go, and the body
//! can no longer be sent again.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::{BoxError, Merged};

/// The most that is kept of a request for sending it again, in bytes.
pub(crate) const REPLAY_LIMIT_BYTES: usize = 64 * 1024;

/// How far the sending of a request has come. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<State>);

#[derive(Debug, Default)]
struct State {
    progress: AtomicU8,
    /// Bytes of the newest attempt.
    sent: AtomicU64,
}

const COMPLETE: u8 = 1;
const FAILED: u8 = 2;

impl Progress {
    /// All of it has been taken over: what is missing is the backend's.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.progress.load(Ordering::Relaxed) == COMPLETE
    }

    /// It cannot be finished: the client went away, or broke a limit.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.progress.load(Ordering::Relaxed) == FAILED
    }

    /// How much of it was sent in the newest attempt, in bytes.
    pub(crate) fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    fn note(&self, progress: u8) {
        self.0.progress.store(progress, Ordering::Relaxed);
    }

    fn sends(&self, frame: &Frame<Bytes>) {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        self.0.sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One attempt at sending a body. Its [`Keeper`] makes the next one, which takes the body from this one.
#[derive(Debug)]
pub struct Replay<B> {
    shared: Arc<Mutex<Shared<B>>>,
    /// Which attempt it is, from 0.
    attempt: u32,
    untouched: bool,
    ended: bool,
}

/// The body is sent by a later attempt.
#[derive(Debug, thiserror::Error)]
#[error("the request is being sent again")]
struct Superseded;

#[derive(Debug)]
struct Shared<B> {
    body: Merged<B>,
    kept: Vec<Kept>,
    /// The newest attempt, and how many of them it has sent.
    attempt: u32,
    sent: usize,
    kept_bytes: usize,
    limit_bytes: usize,
    /// False once frames have been let go, or will not be needed again.
    keeping: bool,
    body_ended: bool,
    progress: Progress,
}

#[derive(Clone, Debug)]
enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl<B> Replay<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    /// The first attempt.
    pub fn new(body: B) -> Self {
        Self::up_to(REPLAY_LIMIT_BYTES, body)
    }

    /// The first attempt at sending a body that is in memory anyway: it can be sent again whatever its size.
    pub fn held(body: B) -> Self {
        Self::up_to(usize::MAX, body)
    }

    fn up_to(limit_bytes: usize, body: B) -> Self {
        let (body_ended, progress) = (body.is_end_stream(), Progress::default());
        if body_ended {
            progress.note(COMPLETE);
        }
        let body = Merged::new(body);
        let shared = Shared {
            body,
            kept: Vec::new(),
            attempt: 0,
            sent: 0,
            kept_bytes: 0,
            limit_bytes,
            keeping: true,
            body_ended,
            progress,
        };
        Self { shared: Arc::new(Mutex::new(shared)), attempt: 0, untouched: true, ended: false }
    }

    /// A handle that decides over further attempts, while the attempt itself goes to the transport.
    #[must_use]
    pub fn keeper(&self) -> Keeper<B> {
        Keeper { shared: Arc::clone(&self.shared) }
    }

    fn lock(&self) -> MutexGuard<'_, Shared<B>> {
        lock(&self.shared)
    }
}

/// Decides over further attempts at sending a body.
pub struct Keeper<B> {
    shared: Arc<Mutex<Shared<B>>>,
}

impl<B> Keeper<B> {
    /// Whether there can be another attempt: nothing has been let go, and it can still become whole.
    #[must_use]
    pub fn can_repeat(&self) -> bool {
        let shared = lock(&self.shared);
        shared.keeping && !shared.progress.has_failed()
    }

    /// Another attempt from the beginning, if there can be one. It takes the body from the one before.
    #[must_use]
    pub fn again(&self) -> Option<Replay<B>> {
        let mut shared = lock(&self.shared);
        if !shared.keeping || shared.progress.has_failed() {
            return None;
        }
        shared.sent = 0;
        shared.attempt += 1;
        shared.progress.0.sent.store(0, Ordering::Relaxed);
        let (shared, attempt) = (Arc::clone(&self.shared), shared.attempt);
        Some(Replay { shared, attempt, untouched: true, ended: false })
    }

    /// How far the request has come in all attempts together.
    pub(crate) fn progress(&self) -> Progress {
        lock(&self.shared).progress.clone()
    }

    /// There will be no further attempt: nothing more is kept than the last one has yet to send.
    pub fn commit(&self) {
        let mut shared = lock(&self.shared);
        shared.keeping = false;
        shared.let_go();
    }
}

// A panic while polling the inner body leaves it to be polled again or dropped, which is all that happens to it.
fn lock<B>(shared: &Mutex<Shared<B>>) -> MutexGuard<'_, Shared<B>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B> Shared<B> {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if !self.keeping {
            return;
        }
        let kept = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Kept::Data(data.clone()),
            (None, Some(trailers)) => Kept::Trailers(trailers.clone()),
            (None, None) => return,
        };
        self.kept_bytes += if let Kept::Data(data) = &kept { data.len() } else { 0 };
        if self.kept_bytes > self.limit_bytes {
            self.keeping = false;
            self.let_go();
        } else {
            self.kept.push(kept);
            self.sent += 1;
        }
    }

    /// Forgets what was kept, when nobody has to send it any more.
    fn let_go(&mut self) {
        if self.sent == self.kept.len() {
            self.kept = Vec::new();
            self.sent = 0;
        }
    }
}

impl<B> Body for Replay<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let shared = Arc::clone(&self.shared);
        let mut shared = lock(&shared);
        if self.attempt != shared.attempt {
            return Poll::Ready(Some(Err(Superseded.into())));
        }
        self.untouched = false;
        if let Some(kept) = shared.kept.get(shared.sent).cloned() {
            shared.sent += 1;
            self.ended = shared.body_ended && shared.sent == shared.kept.len();
            if !shared.keeping {
                shared.let_go();
            }
            let frame = match kept {
                Kept::Data(data) => Frame::data(data),
                Kept::Trailers(trailers) => Frame::trailers(trailers),
            };
            shared.progress.sends(&frame);
            return Poll::Ready(Some(Ok(frame)));
        }
        if shared.body_ended {
            self.ended = true;
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut shared.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                shared.keep(frame);
                shared.progress.sends(frame);
                shared.body_ended = shared.body.is_end_stream();
            }
            Poll::Ready(None) => shared.body_ended = true,
            Poll::Ready(Some(Err(_))) => shared.progress.note(FAILED),
            Poll::Pending => {}
        }
        if shared.body_ended {
            self.ended = true;
            shared.progress.note(COMPLETE);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        if self.ended {
            return true;
        }
        let shared = self.lock();
        shared.body_ended && shared.sent == shared.kept.len()
    }

    fn size_hint(&self) -> SizeHint {
        let shared = self.lock();
        if self.untouched && shared.kept.is_empty() { shared.body.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    type Frames = StreamBody<futures::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

    fn body(chunks: &[&'static [u8]]) -> Frames {
        let frames: Vec<_> = chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk)))).collect();
        StreamBody::new(stream::iter(frames))
    }

    async fn read(body: Replay<Frames>) -> Vec<u8> {
        body.collect().await.unwrap().to_bytes().to_vec()
    }

    // Large enough not to be joined into one frame.
    static ONE: [u8; 5000] = [1; 5000];
    static TWO: [u8; 5000] = [2; 5000];
    static THREE: [u8; 5000] = [3; 5000];

    #[tokio::test]
    async fn a_second_attempt_sends_what_the_first_sent_and_the_rest() {
        let mut first = Replay::new(body(&[&ONE, &TWO, &THREE]));
        first.frame().await.unwrap().unwrap();
        let keeper = first.keeper();
        let mut second = keeper.again().unwrap();
        drop(first);
        second.frame().await.unwrap().unwrap();
        second.frame().await.unwrap().unwrap();
        let third = keeper.again().unwrap();
        drop(second);
        assert_eq!(read(third).await, [ONE, TWO, THREE].concat());
    }

    #[tokio::test]
    async fn a_large_body_is_sent_once_only() {
        static CHUNK: [u8; 40_000] = [7; 40_000];
        let mut first = Replay::new(body(&[&CHUNK, &CHUNK]));
        first.frame().await.unwrap().unwrap();
        assert!(first.keeper().can_repeat());
        first.frame().await.unwrap().unwrap();
        assert!(!first.keeper().can_repeat());
        assert!(first.keeper().again().is_none());
    }

    #[tokio::test]
    async fn a_large_body_that_is_held_anyway_can_be_sent_again() {
        static CHUNK: [u8; 40_000] = [7; 40_000];
        let mut first = Replay::held(body(&[&CHUNK, &CHUNK]));
        let keeper = first.keeper();
        while first.frame().await.is_some() {}
        assert_eq!(read(keeper.again().unwrap()).await, [CHUNK, CHUNK].concat());
    }

    #[tokio::test]
    async fn nothing_is_kept_after_the_commit() {
        let mut attempt = Replay::new(body(&[&ONE, &TWO]));
        let keeper = attempt.keeper();
        attempt.frame().await.unwrap().unwrap();
        keeper.commit();
        assert!(keeper.again().is_none());
        assert_eq!(read(attempt).await, TWO);
    }

    #[tokio::test]
    async fn the_next_attempt_takes_the_body_from_the_one_before() {
        let mut first = Replay::new(body(&[&ONE, &TWO]));
        first.frame().await.unwrap().unwrap();
        let second = first.keeper().again().unwrap();
        assert!(first.frame().await.unwrap().is_err());
        assert_eq!(read(second).await, [ONE, TWO].concat());
    }

    #[tokio::test]
    async fn what_its_client_breaks_off_is_not_repeated() {
        let frames = [Ok(Frame::data(Bytes::from_static(&ONE))), Err(std::io::Error::other("gone"))];
        let mut attempt = Replay::new(StreamBody::new(stream::iter(frames)));
        let (keeper, progress) = (attempt.keeper(), attempt.keeper().progress());
        attempt.frame().await.unwrap().unwrap();
        assert!(keeper.can_repeat() && !progress.has_failed() && !progress.is_complete());
        attempt.frame().await.unwrap().unwrap_err();
        assert!(!keeper.can_repeat() && keeper.again().is_none());
        assert!(progress.has_failed() && !progress.is_complete());
    }
}
