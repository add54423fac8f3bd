//! Group commit: what many callers ask for at the same moment becomes one transaction.
//!
//! While one batch is being stored the next gathers, so a lone caller waits for nothing and a crowd shares commits.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Result;
use crate::error::Error;

/// The most that one transaction takes.
const MAX_BATCH: usize = 128;
/// The most that wait; beyond it callers are held back.
const MAX_WAITING: usize = 1024;

type Waiting<I, O> = (I, oneshot::Sender<Result<O>>);

/// Stores a batch and says for each of it what came of it, in order.
pub type Store<I, O> =
    Box<dyn Fn(Vec<I>) -> Pin<Box<dyn Future<Output = Result<Vec<O>>> + Send>> + Send + Sync>;

/// A queue of things to be stored together. Clones share it.
#[derive(Debug)]
pub struct Batch<I, O> {
    waiting: mpsc::Sender<Waiting<I, O>>,
}

impl<I, O> Clone for Batch<I, O> {
    fn clone(&self) -> Self {
        Batch { waiting: self.waiting.clone() }
    }
}

impl<I: Send + 'static, O: Send + 'static> Batch<I, O> {
    /// Starts the task that stores. It ends when all clones are dropped, or with `stopping`.
    #[must_use]
    pub fn start(store: Store<I, O>, tasks: &TaskTracker, stopping: CancellationToken) -> Batch<I, O> {
        let (waiting, queue) = mpsc::channel(MAX_WAITING);
        tasks.spawn(async move {
            tokio::select! {
                () = drain(store, queue) => {}
                () = stopping.cancelled() => {}
            }
        });
        Batch { waiting }
    }

    /// Has one thing stored, and waits for it. What was handed over is stored even if the caller goes away.
    ///
    /// # Errors
    /// The store's error, which all of the batch share; [`Error::Stopping`] when the service stops first.
    pub async fn store(&self, item: I) -> Result<O> {
        let (reply, answer) = oneshot::channel();
        self.waiting.send((item, reply)).await.map_err(|_| Error::Stopping)?;
        answer.await.map_err(|_| Error::Stopping)?
    }
}

async fn drain<I, O>(store: Store<I, O>, mut queue: mpsc::Receiver<Waiting<I, O>>) {
    let mut waiting = Vec::with_capacity(MAX_BATCH);
    while queue.recv_many(&mut waiting, MAX_BATCH).await > 0 {
        let (items, replies): (Vec<I>, Vec<_>) = waiting.drain(..).unzip();
        match store(items).await {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    let _ = reply.send(Ok(outcome)); // whoever went away does not want it
                }
            }
            Err(error) => share(&Arc::new(error), replies),
        }
    }
}

fn share<O>(error: &Arc<Error>, replies: Vec<oneshot::Sender<Result<O>>>) {
    for reply in replies {
        let _ = reply.send(Err(Error::shared(error)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn counting(batches: Arc<AtomicUsize>) -> Store<u32, u32> {
        Box::new(move |items| {
            batches.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                tokio::task::yield_now().await;
                if items.contains(&13) {
                    return Err(Error::unavailable("unlucky"));
                }
                Ok(items.into_iter().map(|item| item * 2).collect())
            })
        })
    }

    #[tokio::test]
    async fn a_crowd_shares_batches_and_everyone_gets_its_own_answer() {
        let batches = Arc::new(AtomicUsize::new(0));
        let batch = Batch::start(counting(batches.clone()), &TaskTracker::new(), CancellationToken::new());
        let answers = futures::future::join_all((100..400).map(|item| batch.store(item))).await;
        for (item, answer) in (100..400).zip(answers) {
            assert_eq!(answer.unwrap(), item * 2);
        }
        assert!(batches.load(Ordering::SeqCst) < 30, "{batches:?} batches for 300 items");
    }

    #[tokio::test]
    async fn an_error_is_told_to_all_of_the_batch_and_to_no_later_one() {
        let batch = Batch::start(counting(Arc::default()), &TaskTracker::new(), CancellationToken::new());
        let answers = futures::future::join_all((10..15).map(|item| batch.store(item))).await;
        assert!(answers.iter().all(Result::is_err));
        assert_eq!(batch.store(1).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn after_stopping_it_refuses() {
        let stopping = CancellationToken::new();
        let tasks = TaskTracker::new();
        let batch = Batch::start(counting(Arc::default()), &tasks, stopping.clone());
        stopping.cancel();
        tasks.close();
        tasks.wait().await;
        assert!(matches!(batch.store(1).await, Err(Error::Stopping)));
    }
}
