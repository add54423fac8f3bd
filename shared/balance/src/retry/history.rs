//! What was sent of a call so far.

use crate::verdict::{Executed, Pushback, Verdict};

/// Counts the attempts of one call. Starts with the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    pub(super) number: u32,
    pub(super) unsent: u32,
    pub(super) unprocessed: bool,
    pub(super) since_pushback: u32,
}

impl Default for History {
    fn default() -> Self {
        Self { number: 1, unsent: 0, unprocessed: false, since_pushback: 0 }
    }
}

impl History {
    /// After the decision to send it again, because of this verdict.
    #[must_use]
    pub fn sent_again(self, verdict: &Verdict, transparent: bool) -> Self {
        match (transparent, verdict.executed) {
            (true, Executed::NotSent) => Self { unsent: self.unsent.saturating_add(1), ..self },
            (true, _) => Self { unprocessed: true, ..self },
            (false, _) => Self {
                number: self.number.saturating_add(1),
                unprocessed: false,
                since_pushback: if matches!(verdict.pushback, Some(Pushback::After(_))) {
                    0
                } else {
                    self.since_pushback.saturating_add(1)
                },
                ..self
            },
        }
    }

    /// The number of the attempt, from 1; transparent ones keep it.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }

    /// What to send in `grpc-previous-rpc-attempts` with this attempt, if anything (gRFC A6): the attempts before it, the
    /// `callers` own included, which is what the caller sent there or 0. Transparent ones are not counted.
    #[must_use]
    pub const fn previous_attempts(self, callers: u32) -> Option<u32> {
        let before = callers.saturating_add(self.number.saturating_sub(1));
        if before == 0 { None } else { Some(before) }
    }
}
