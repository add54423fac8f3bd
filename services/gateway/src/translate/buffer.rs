//! Messages that are held whole, because JSON cannot be read in part: each has a limit, in bytes and in the time that it
//! takes to come, and all together.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// The largest message, in bytes: as gRPC's own servers have it.
pub(super) const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;
/// All messages that are held at once.
pub(crate) const TOTAL_LIMIT: usize = 256 * 1024 * 1024;
/// How long a client may take for a message from its first byte on.
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts what is held. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers(Arc<AtomicUsize>);

/// Bytes held, until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    total: Arc<AtomicUsize>,
    own: usize,
    limit: usize,
}

/// More than can be held.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TooMuch {
    /// Of one message.
    #[error("the message is larger than {MESSAGE_LIMIT} bytes")]
    Message,
    /// Of all.
    #[error("too many messages are being translated")]
    Total,
}

impl Buffers {
    /// Nothing yet.
    pub(super) fn hold(&self) -> Held {
        self.hold_up_to(MESSAGE_LIMIT)
    }

    /// The same for a message that may have another size.
    pub(crate) fn hold_up_to(&self, limit: usize) -> Held {
        Held { total: Arc::clone(&self.0), own: 0, limit }
    }

    /// All that is held now.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Held {
    /// Holds so much from now on.
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), TooMuch> {
        self.clear();
        // Counted first: what does not fit is given back with the rest.
        let before = self.total.fetch_add(bytes, Ordering::Relaxed);
        self.own = bytes;
        match () {
            () if bytes > self.limit => Err(TooMuch::Message),
            () if before.saturating_add(bytes) > TOTAL_LIMIT => Err(TooMuch::Total),
            () => Ok(()),
        }
    }

    /// Lets all of it go.
    pub(super) fn clear(&mut self) {
        self.total.fetch_sub(self.own, Ordering::Relaxed);
        self.own = 0;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.clear();
    }
}

/// How long a message is waited for.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    late: Option<Pin<Box<Sleep>>>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { limit: PATIENCE, late: None }
    }
}

impl Patience {
    /// Whether it is over, for a message that has begun to come, or has not.
    pub(super) fn is_over(&mut self, begun: bool, cx: &mut Context<'_>) -> bool {
        if !begun {
            self.late = None;
            return false;
        }
        let late = self.late.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        matches!(late.as_mut().poll(cx), Poll::Ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_and_all_of_them_have_a_limit_and_nothing_stays_counted() {
        let buffers = Buffers::default();
        let mut one = buffers.hold();
        one.set(MESSAGE_LIMIT).unwrap();
        assert!(matches!(one.set(MESSAGE_LIMIT + 1), Err(TooMuch::Message)));
        drop(one);
        let mut all: Vec<Held> = (0..TOTAL_LIMIT / MESSAGE_LIMIT).map(|_| buffers.hold()).collect();
        all.iter_mut().for_each(|held| held.set(MESSAGE_LIMIT).unwrap());
        let mut more = buffers.hold();
        assert!(matches!(more.set(1), Err(TooMuch::Total)));
        more.clear();
        all[0].clear();
        more.set(1).unwrap();
        drop((all, more));
        assert_eq!(buffers.0.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_message_is_waited_for_from_its_beginning_on() {
        let mut patience = Patience { limit: Duration::from_millis(50), late: None };
        let mut over =
            async |begun: bool| std::future::poll_fn(|cx| Poll::Ready(patience.is_over(begun, cx))).await;
        for _ in 0..3 {
            assert!(!over(true).await);
            sleep(Duration::from_millis(100)).await;
            assert!(!over(false).await, "it has come");
        }
        assert!(!over(true).await);
        sleep(Duration::from_millis(100)).await;
        assert!(over(true).await);
    }
}
