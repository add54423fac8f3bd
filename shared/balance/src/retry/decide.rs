//! The decision after one attempt: pure, the clock, the randomness and the counts passed in.

use std::time::{Duration, Instant};

use super::{Deadline, Decision, History, MOST_ATTEMPTS, Policy, Why};
use crate::verdict::{Blame, Cause, Executed, Pushback, Verdict};

/// Connects beyond one per backend that a call may try without a wait.
const SPARE_CONNECTS: u32 = 3;
/// The longest wait that a backend may ask for and that a call is held for. A longer one is the caller's to know: it is
/// passed on with the answer, instead of a silence.
const LONGEST_HELD: Duration = Duration::from_secs(1);

/// One attempt that has ended, and what is known of its call.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The verdict on it.
    pub verdict: &'a Verdict,
    /// What was sent so far, this attempt included.
    pub history: History,
    /// Backends of the pool.
    pub backends: u32,
    /// The method may be executed more than once, by its `idempotency_level` or by the route.
    pub idempotent: bool,
    /// Any of the response has been passed on to the client.
    pub passed_on: bool,
    /// All of the request that has come in is still there to be sent again.
    pub replayable: bool,
    /// How long it took.
    pub took: Duration,
    /// The call's deadline.
    pub deadline: &'a Deadline,
    /// The time.
    pub now: Instant,
    /// Any number, each equally likely, for the jitter.
    pub random: u32,
}

/// Whether a call is sent again. A repetition that is not transparent also needs a place in the budget:
/// [`Budget::claim`](super::Budget::claim) takes this decision and the place in one step.
///
/// A call that never left is sent again at once, as often as there are backends and 3 more; one that a backend refused
/// unprocessed once per attempt. Beyond that both wait and count like any other, but need not be idempotent.
#[must_use]
pub fn decide(policy: &Policy, attempt: &Attempt<'_>) -> Decision {
    match stopped(attempt) {
        Some(why) => Decision::Stop(why),
        None if transparent(attempt) => Decision::Again { after: Duration::ZERO, transparent: true },
        None => repeated(policy, attempt),
    }
}

/// What stops every kind of repetition.
fn stopped(attempt: &Attempt<'_>) -> Option<Why> {
    let verdict = attempt.verdict;
    match verdict.cause {
        _ if verdict.blame == Blame::Success => return Some(Why::Succeeded),
        Cause::Cancelled => return Some(Why::Cancelled),
        Cause::NoRoute | Cause::NoHealthyBackend | Cause::Overflow | Cause::RateLimited => {
            return Some(Why::Refused);
        }
        // Limits of the call, not of the attempt.
        Cause::Deadline | Cause::StreamIdle | Cause::StreamAge => return Some(Why::Deadline),
        _ => {}
    }
    if attempt.passed_on {
        return Some(Why::PassedOn);
    }
    if !attempt.replayable {
        return Some(Why::NotReplayable);
    }
    (!attempt.deadline.leaves_room(Duration::ZERO, attempt.now)).then_some(Why::Deadline)
}

fn transparent(attempt: &Attempt<'_>) -> bool {
    match attempt.verdict.executed {
        Executed::NotSent => attempt.history.unsent < attempt.backends.saturating_add(SPARE_CONNECTS),
        Executed::Unprocessed => !attempt.history.unprocessed,
        Executed::Perhaps | Executed::Yes => false,
    }
}

fn repeated(policy: &Policy, attempt: &Attempt<'_>) -> Decision {
    let (verdict, history) = (attempt.verdict, attempt.history);
    let never = verdict.executed.never();
    let retryable = never
        || policy.codes.contains(verdict.code)
        || policy.on_transport_failure && verdict.cause.is_transport();
    if !retryable || verdict.blame == Blame::Caller {
        return Decision::Stop(Why::NotRetryable);
    }
    if !never && !attempt.idempotent {
        return Decision::Stop(Why::NotIdempotent);
    }
    if history.number >= policy.max_attempts.clamp(1, MOST_ATTEMPTS) {
        return Decision::Stop(Why::Attempts);
    }
    let after = match verdict.pushback {
        Some(Pushback::Never) => return Decision::Stop(Why::Pushback),
        Some(Pushback::After(wait)) if wait > LONGEST_HELD => return Decision::Stop(Why::Pushback),
        Some(Pushback::After(wait)) => wait,
        None => policy.backoff.wait(history.since_pushback.saturating_add(1), attempt.random),
    };
    // A backend that answered so late that another such answer would come too late: what it said is worth more than that
    // the time was over. A broken transport tells nothing of how long an answer takes.
    let answer = if verdict.cause.is_transport() { Duration::ZERO } else { attempt.took };
    if !attempt.deadline.leaves_room(after.saturating_add(answer), attempt.now) {
        return Decision::Stop(Why::Deadline);
    }
    Decision::Again { after, transparent: false }
}
