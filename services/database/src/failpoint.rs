//! Points at which a test lets the process die, to see what a crash there leaves behind. Release builds have none.

use serde::{Deserialize, Serialize};

/// Where the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// A transaction is written and not yet committed.
    BeforeCommit,
    /// A transaction is committed and not yet acknowledged, its effects not begun.
    AfterCommit,
    /// A job is published and not yet struck out.
    AfterPublish,
    /// Effects that have happened are about to be struck out.
    BeforeRowDelete,
}

/// The point that is armed, if one is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Failpoint {
    #[cfg(debug_assertions)]
    armed: Option<Point>,
}

impl Failpoint {
    /// Arms a point; in a release build, none.
    #[must_use]
    #[cfg_attr(not(debug_assertions), allow(unused_variables))]
    pub const fn armed(point: Option<Point>) -> Self {
        Self {
            #[cfg(debug_assertions)]
            armed: point,
        }
    }

    /// Ends the process, as `kill -9` does, if this point is armed.
    #[cfg_attr(not(debug_assertions), allow(clippy::unused_self, unused_variables))]
    pub fn reach(self, point: Point) {
        #[cfg(debug_assertions)]
        if self.armed == Some(point) {
            std::process::abort();
        }
    }
}
