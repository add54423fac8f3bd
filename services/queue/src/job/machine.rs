//! The life of a job as a pure state machine: every change of a stored job is one [`Command`] applied here, whatever
//! the store. A store only loads the job under a lock, applies, and saves what came out in the same transaction.
//!
//! ```text
//!            claim                 succeed
//! Waiting ----------> Running --------------> Succeeded
//!    ^  \               | | \
//!    |   \ cancel       | |  \ bury, or no attempt left
//!    |    `--> Cancelled' |   `--------------> Dead --discard--> Cancelled
//!    `------ fail, expire, release             |
//!    `------------------- redrive -------------'
//! ```

use crate::clock::Millis;

use super::{AttemptError, Event, Job, MAX_ERRORS, State, bounded_message};

/// A change to a job. Those with an epoch are a worker's, and refused unless the worker still holds that very lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A worker takes a due job.
    Claim {
        /// Who.
        worker: String,
        /// The end of the lease.
        lease_until: Millis,
    },
    /// The worker is alive and has done something.
    Advance {
        /// The lease.
        epoch: u64,
        /// The new end of the lease; the old one when unset.
        lease_until: Option<Millis>,
        /// What it has done.
        events: Vec<Event>,
    },
    /// The attempt ended well.
    Succeed {
        /// The lease.
        epoch: u64,
        /// What it did last.
        events: Vec<Event>,
    },
    /// The attempt failed and may be repeated.
    Fail {
        /// The lease.
        epoch: u64,
        /// Why.
        error: String,
        /// When the next attempt is due, if there is one.
        retry_at: Millis,
    },
    /// The attempt failed, and no other can do better.
    Bury {
        /// The lease.
        epoch: u64,
        /// Why.
        error: String,
    },
    /// The worker stopped because the job was asked to.
    Abandon {
        /// The lease.
        epoch: u64,
    },
    /// The worker gives the job back unfinished: the attempt does not count.
    Release {
        /// The lease.
        epoch: u64,
    },
    /// The lease ran out: the attempt counts as failed.
    Expire {
        /// The lease.
        epoch: u64,
        /// When the next attempt is due, if there is one.
        retry_at: Millis,
    },
    /// The owner wants it no more.
    Cancel,
    /// A dead letter goes back on its queue.
    Redrive,
    /// A dead letter is given up.
    Discard,
}

/// Why a command was refused. The job is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Another worker has it, or nobody; whoever asks must stop working on it.
    LeaseLost,
    /// It is not waiting, or not due.
    NotClaimable,
    /// It has ended.
    Ended,
    /// It is not a dead letter.
    NotDead,
}

/// What applying a command adds to the log, in order. The last of it has the job's last sequence number.
pub type Effect = Vec<Event>;

/// Applies a command at a time. On refusal the job is unchanged.
///
/// # Errors
/// When the job is in no state for the command.
pub fn apply(job: &mut Job, command: &Command, now: Millis) -> Result<Effect, Refusal> {
    match command {
        Command::Claim { worker, lease_until } => claim(job, worker, *lease_until, now),
        Command::Advance { epoch, lease_until, events } => {
            holds(job, *epoch)?;
            job.lease_until = lease_until.or(job.lease_until);
            Ok(effect(job, events.clone()))
        }
        Command::Succeed { epoch, events } => {
            holds(job, *epoch)?;
            end(job, State::Succeeded, now);
            Ok(ended(job, events.clone()))
        }
        Command::Fail { epoch, error, retry_at } => {
            holds(job, *epoch)?;
            Ok(fail(job, error, *retry_at, now))
        }
        Command::Bury { epoch, error } => {
            holds(job, *epoch)?;
            record(job, error, now);
            end(job, State::Dead, now);
            Ok(ended(job, Vec::new()))
        }
        Command::Abandon { epoch } => {
            holds(job, *epoch)?;
            end(job, State::Cancelled, now);
            Ok(ended(job, Vec::new()))
        }
        Command::Release { epoch } => release(job, *epoch, now),
        Command::Expire { epoch, retry_at } => expire(job, *epoch, *retry_at, now),
        Command::Cancel => cancel(job, now),
        Command::Redrive => redrive(job, now),
        Command::Discard => {
            if job.state != State::Dead {
                return Err(Refusal::NotDead);
            }
            job.state = State::Cancelled;
            Ok(Effect::default())
        }
    }
}

/// Makes a job that nothing can run a dead letter before anybody tries; for a store that is just storing it.
pub fn bury_unborn(job: &mut Job, error: &str, now: Millis) -> Effect {
    record(job, error, now);
    end(job, State::Dead, now);
    ended(job, Vec::new())
}

fn claim(job: &mut Job, worker: &str, lease_until: Millis, now: Millis) -> Result<Effect, Refusal> {
    if job.state != State::Waiting || job.due_at > now {
        return Err(Refusal::NotClaimable);
    }
    job.state = State::Running;
    job.attempts += 1;
    job.epoch += 1;
    job.worker = Some(worker.to_owned());
    job.lease_until = Some(lease_until);
    Ok(Effect::default())
}

fn fail(job: &mut Job, error: &str, retry_at: Millis, now: Millis) -> Effect {
    let error = record(job, error, now);
    if job.cancel_requested {
        end(job, State::Cancelled, now);
        return ended(job, Vec::new());
    }
    if job.attempts >= job.max_attempts {
        end(job, State::Dead, now);
        return ended(job, Vec::new());
    }
    wait(job, retry_at);
    effect(job, vec![Event::Retry { error, due_at: retry_at }])
}

fn release(job: &mut Job, epoch: u64, now: Millis) -> Result<Effect, Refusal> {
    holds(job, epoch)?;
    if job.cancel_requested {
        end(job, State::Cancelled, now);
        return Ok(ended(job, Vec::new()));
    }
    let error =
        AttemptError { attempt: job.attempts, time: now, message: "given back by a stopping worker".into() };
    job.attempts -= 1;
    wait(job, now);
    Ok(effect(job, vec![Event::Retry { error, due_at: now }]))
}

fn expire(job: &mut Job, epoch: u64, retry_at: Millis, now: Millis) -> Result<Effect, Refusal> {
    holds(job, epoch)?;
    if job.lease_until.is_some_and(|until| until > now) {
        return Err(Refusal::LeaseLost);
    }
    let worker = job.worker.clone().unwrap_or_default();
    Ok(fail(job, &format!("the worker {worker} was not heard of until its lease ended"), retry_at, now))
}

fn cancel(job: &mut Job, now: Millis) -> Result<Effect, Refusal> {
    match job.state {
        State::Waiting => {
            end(job, State::Cancelled, now);
            Ok(ended(job, Vec::new()))
        }
        State::Running => {
            job.cancel_requested = true;
            Ok(Effect::default())
        }
        State::Cancelled => Ok(Effect::default()),
        State::Succeeded | State::Dead => Err(Refusal::Ended),
    }
}

fn redrive(job: &mut Job, now: Millis) -> Result<Effect, Refusal> {
    if job.state != State::Dead {
        return Err(Refusal::NotDead);
    }
    let unknown = || AttemptError { attempt: job.attempts, time: now, message: "redriven".into() };
    let error = job.errors.last().cloned().unwrap_or_else(unknown);
    job.attempts = 0;
    job.ended_at = None;
    wait(job, now);
    // The log ends with `Ended`: it becomes the retry in its place, so its number stays.
    Ok(vec![Event::Retry { error, due_at: now }])
}

fn holds(job: &Job, epoch: u64) -> Result<(), Refusal> {
    if job.state == State::Running && job.epoch == epoch { Ok(()) } else { Err(Refusal::LeaseLost) }
}

fn record(job: &mut Job, message: &str, now: Millis) -> AttemptError {
    let error = AttemptError { attempt: job.attempts, time: now, message: bounded_message(message) };
    job.errors.push(error.clone());
    let excess = job.errors.len().saturating_sub(MAX_ERRORS);
    job.errors.drain(..excess);
    error
}

fn wait(job: &mut Job, due_at: Millis) {
    job.state = State::Waiting;
    job.due_at = due_at;
    job.published_at = None;
    job.lease_until = None;
    job.worker = None;
}

fn end(job: &mut Job, state: State, now: Millis) {
    job.state = state;
    job.ended_at = Some(now);
    job.lease_until = None;
    job.worker = None;
}

fn ended(job: &mut Job, mut events: Vec<Event>) -> Effect {
    events.push(Event::Ended);
    effect(job, events)
}

fn effect(job: &mut Job, events: Vec<Event>) -> Effect {
    job.last_sequence += events.len() as u64;
    events
}
