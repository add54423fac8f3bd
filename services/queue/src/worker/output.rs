//! What a handler says while it runs: output and progress, gathered for a moment so that not each token is a commit.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::job::Event;

/// The least time between two commits of a job's output.
const FLUSH_INTERVAL: Duration = Duration::from_millis(30);
/// The most that one output event holds, in bytes.
const MAX_PIECE_BYTES: usize = 16 << 10;

/// The output of one attempt.
#[derive(Debug, Default)]
pub struct Output {
    pending: Mutex<Vec<Event>>,
    news: Notify,
}

impl Output {
    /// Adds a piece of output text.
    pub fn text(&self, piece: &str) {
        if piece.is_empty() {
            return;
        }
        let mut pending = self.lock();
        match pending.last_mut() {
            Some(Event::Output { text }) if text.len() + piece.len() <= MAX_PIECE_BYTES => {
                text.push_str(piece);
            }
            _ => pending.push(Event::Output { text: piece.to_owned() }),
        }
        drop(pending);
        self.news.notify_one();
    }

    /// Says how far the attempt has come.
    pub fn progress(&self, stage: &str, done: u64, total: u64) {
        let mut pending = self.lock();
        // Of several reports on one stage only the last is news.
        if matches!(pending.last(), Some(Event::Progress { stage: last, .. }) if last == stage) {
            pending.pop();
        }
        pending.push(Event::Progress { stage: stage.to_owned(), done, total });
        drop(pending);
        self.news.notify_one();
    }

    /// Takes what has gathered.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until something has gathered and the last flush is a moment ago.
    pub async fn gathered(&self, last_flush: Instant) {
        while self.lock().is_empty() {
            self.news.notified().await;
        }
        tokio::time::sleep_until(last_flush + FLUSH_INTERVAL).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Event>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_gather_in_order() {
        let output = Output::default();
        output.progress("embed", 1, 9);
        output.progress("embed", 2, 9);
        output.text("Good ");
        output.text("morning");
        output.text("");
        let text = Event::Output { text: "Good morning".into() };
        let progress = Event::Progress { stage: "embed".into(), done: 2, total: 9 };
        assert_eq!(output.take(), [progress, text]);
        assert_eq!(output.take(), []);
    }

    #[tokio::test]
    async fn it_wakes_whoever_commits() {
        let output = std::sync::Arc::new(Output::default());
        let waiting = output.clone();
        let tasks = tokio_util::task::TaskTracker::new();
        let woken = tasks.spawn(async move { waiting.gathered(Instant::now()).await });
        output.text("token");
        woken.await.unwrap();
    }
}
