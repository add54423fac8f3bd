//! What Publish takes, and refuses.

use uuid::Uuid;
use weft_mesh::trace;
use weft_proto::queue::v1::PublishRequest;

use crate::{
    clock::{Millis, millis},
    error::Error,
    handler,
    job::{NewJob, Queue},
    jobs::Result,
};

const MAX_PAYLOAD_BYTES: usize = 256 << 10;
const MAX_KEY_BYTES: usize = 200;
const MAX_TYPE_BYTES: usize = 200;
const MAX_DELAY_SECONDS: i64 = 30 * 24 * 3600;
const MAX_ATTEMPTS: u32 = 100;

/// The job to store. One that no handler takes is stored as a dead letter.
pub(super) fn decode(
    request: PublishRequest,
    owner: &str,
    default_attempts: u32,
    now: Millis,
) -> Result<NewJob> {
    let queue: Queue = request.queue.parse()?;
    let bounded = |field, value: &str, most: usize| {
        if value.len() > most {
            Err(Error::field(field, format!("must be at most {most} bytes")))
        } else {
            Ok(())
        }
    };
    if request.r#type.is_empty() {
        return Err(Error::field("type", "must not be empty"));
    }
    bounded("type", &request.r#type, MAX_TYPE_BYTES)?;
    bounded("idempotency_key", &request.idempotency_key, MAX_KEY_BYTES)?;
    if request.idempotency_key.contains('\0') || request.r#type.contains('\0') {
        return Err(Error::field("idempotency_key", "must not contain NUL"));
    }
    if request.payload.len() > MAX_PAYLOAD_BYTES {
        let size = request.payload.len();
        return Err(Error::field("payload", format!("must be at most {MAX_PAYLOAD_BYTES} bytes, is {size}")));
    }
    if request.max_attempts > MAX_ATTEMPTS {
        return Err(Error::field("max_attempts", format!("must be 0 to {MAX_ATTEMPTS}")));
    }
    Ok(NewJob {
        id: id(&request.job_id)?,
        queue,
        dead_on_arrival: handler::accepts(queue, &request.r#type).err(),
        kind: request.r#type,
        owner: owner.to_owned(),
        payload: request.payload.into(),
        idempotency_key: Some(request.idempotency_key).filter(|key| !key.is_empty()),
        max_attempts: if request.max_attempts == 0 { default_attempts } else { request.max_attempts },
        due_at: now + delay(request.delay)?,
        traceparent: trace::traceparent().unwrap_or_default(),
    })
}

fn id(given: &str) -> Result<Uuid> {
    if given.is_empty() {
        return Ok(Uuid::now_v7());
    }
    Uuid::parse_str(given).map_err(|_| Error::field("job_id", "must be a UUID"))
}

fn delay(delay: Option<prost_types::Duration>) -> Result<Millis> {
    let Some(delay) = delay else { return Ok(0) };
    let valid = std::time::Duration::try_from(delay).ok();
    match valid.filter(|delay| delay.as_secs() <= MAX_DELAY_SECONDS.unsigned_abs()) {
        Some(delay) => Ok(millis(delay).min(MAX_DELAY_SECONDS * 1000)),
        None => Err(Error::field("delay", "must be 0 s to 30 days")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> PublishRequest {
        PublishRequest {
            queue: "chat_queue".into(),
            r#type: "weft.queue.v1.ReplyToChat".into(),
            ..PublishRequest::default()
        }
    }

    fn refusal(change: impl FnOnce(&mut PublishRequest)) -> String {
        let mut request = request();
        change(&mut request);
        decode(request, "ada", 5, 0).unwrap_err().to_string()
    }

    #[test]
    fn every_bad_field_is_named() {
        assert!(refusal(|r| r.queue = "mail_queue".into()).starts_with("unknown queue \"mail_queue\""));
        assert!(refusal(|r| r.r#type = String::new()).starts_with("type: "));
        assert!(refusal(|r| r.payload = vec![0; MAX_PAYLOAD_BYTES + 1].into()).starts_with("payload: "));
        assert!(refusal(|r| r.idempotency_key = "k".repeat(201)).starts_with("idempotency_key: "));
        assert!(refusal(|r| r.max_attempts = 101).starts_with("max_attempts: "));
        assert!(refusal(|r| r.job_id = "7".into()).starts_with("job_id: "));
        for (seconds, nanos) in [(-1, 0), (MAX_DELAY_SECONDS + 1, 0), (0, -5)] {
            assert!(
                refusal(|r| r.delay = Some(prost_types::Duration { seconds, nanos })).starts_with("delay: ")
            );
        }
    }

    #[test]
    fn defaults_are_filled_in() {
        let job = decode(request(), "ada", 5, 1000).unwrap();
        assert_eq!(
            (job.max_attempts, job.due_at, job.idempotency_key, job.dead_on_arrival),
            (5, 1000, None, None)
        );
        assert_eq!(job.id.get_version_num(), 7);
    }

    #[test]
    fn a_type_that_nothing_handles_is_dead_on_arrival() {
        let job = decode(PublishRequest { r#type: "acme.Unheard".into(), ..request() }, "ada", 5, 0).unwrap();
        assert!(job.dead_on_arrival.is_some_and(|reason| reason.contains("acme.Unheard")));
    }
}
