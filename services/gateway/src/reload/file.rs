//! A file that is looked at now and then.
//!
//! Its content decides, not its times: a clock is coarse, and a mounted ConfigMap changes by a link. A new content counts
//! when it has been the same at two looks, so that one half written, which may well be valid, does not.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tokio_util::task::TaskTracker;

/// The content of a file; `None` when it cannot be read.
type Content = Option<Vec<u8>>;

/// A file, as it was seen.
pub(super) struct File {
    path: PathBuf,
    tasks: TaskTracker,
    seen: Seen,
}

impl File {
    /// A file, to be looked at on the threads for blocking work of `tasks`. What it holds at first is new: it may have
    /// changed since it was read.
    pub(super) fn new(path: &Path, tasks: &TaskTracker) -> Self {
        Self { path: path.to_owned(), tasks: tasks.clone(), seen: Seen::default() }
    }

    /// Whether it holds something new, which is said once.
    pub(super) async fn has_changed(&mut self) -> bool {
        let content = self.read().await;
        self.seen.look(content)
    }

    async fn read(&self) -> Content {
        let path = self.path.clone();
        self.tasks.spawn_blocking(move || fs::read(path).ok()).await.ok().flatten()
    }
}

#[derive(Debug, Default)]
struct Seen {
    settled: Content,
    last: Content,
}

impl Seen {
    fn look(&mut self, content: Content) -> bool {
        let still = content == self.last;
        self.last = content;
        if !still || self.last == self.settled {
            return false;
        }
        self.settled.clone_from(&self.last);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(contents: &[Option<&str>]) -> Vec<bool> {
        let a = Some(b"a".to_vec());
        let mut seen = Seen { settled: a.clone(), last: a };
        contents.iter().map(|content| seen.look(content.map(|text| text.as_bytes().to_vec()))).collect()
    }

    #[test]
    fn a_change_is_told_once_when_it_has_settled() {
        assert_eq!(looks(&[Some("a"), Some("b"), Some("b"), Some("b")]), [false, false, true, false]);
        assert_eq!(looks(&[Some("half"), Some("whole"), Some("whole")]), [false, false, true]);
        assert_eq!(looks(&[Some("b"), Some("a"), Some("a")]), [false; 3], "back before it counted");
        assert_eq!(
            looks(&[None, None, Some("a"), Some("a")]),
            [false, true, false, true],
            "gone is a change"
        );
    }
}
