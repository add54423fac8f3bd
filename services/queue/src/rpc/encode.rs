//! The domain's values as messages.

use std::time::Duration;

use weft_proto::queue::v1::{
    Job as JobMessage, JobError, JobOutput, JobProgress, JobRetry, JobState, WatchJobResponse,
    watch_job_response,
};

use crate::{
    clock::Millis,
    job::{AttemptError, Event, Job, Recorded, State},
};

/// A job as it stands at a time.
pub(super) fn job(job: &Job, now: Millis) -> JobMessage {
    JobMessage {
        id: job.id.to_string(),
        queue: job.queue.name().to_owned(),
        r#type: job.kind.clone(),
        state: state(job, now).into(),
        attempts: job.attempts,
        max_attempts: job.max_attempts,
        errors: job.errors.iter().map(error).collect(),
        created_at: Some(timestamp(job.created_at)),
        due_at: Some(timestamp(job.due_at)),
        ended_at: job.ended_at.map(timestamp),
        owner: job.owner.clone(),
        idempotency_key: job.idempotency_key.clone().unwrap_or_default(),
        cancel_requested: job.cancel_requested,
    }
}

/// An event. The last one tells of the job as it ended.
pub(super) fn event(recorded: Recorded, ended: Option<&Job>, now: Millis) -> WatchJobResponse {
    use watch_job_response::Event as Message;
    let event = match recorded.event {
        Event::Output { text } => Message::Output(JobOutput { text }),
        Event::Progress { stage, done, total } => Message::Progress(JobProgress { stage, done, total }),
        Event::Retry { error: failed, due_at } => {
            Message::Retry(JobRetry { error: Some(error(&failed)), due_at: Some(timestamp(due_at)) })
        }
        Event::Ended => Message::Ended(ended.map(|ended| job(ended, now)).unwrap_or_default()),
    };
    WatchJobResponse { sequence: recorded.sequence, event: Some(event) }
}

pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

fn state(job: &Job, now: Millis) -> JobState {
    match job.state {
        State::Waiting if job.due_at > now => JobState::Scheduled,
        State::Waiting => JobState::Ready,
        State::Running => JobState::Running,
        State::Succeeded => JobState::Succeeded,
        State::Dead => JobState::Dead,
        State::Cancelled => JobState::Cancelled,
    }
}

fn error(error: &AttemptError) -> JobError {
    JobError { attempt: error.attempt, time: Some(timestamp(error.time)), message: error.message.clone() }
}

fn timestamp(millis: Millis) -> prost_types::Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
    prost_types::Timestamp { seconds: millis.div_euclid(1000), nanos }
}
