//! Dead letters: listed page by page, redriven and discarded by id or by queue.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::future::join_all;
use uuid::Uuid;
use weft_mesh::context;
use weft_proto::queue::v1::{ListDeadJobsRequest, ListDeadJobsResponse};

use super::{encode, parse_id};
use crate::{
    clock::Millis,
    error::Error,
    job::{Job, Queue, machine::Command},
    jobs::{Change, DeadPage, Result},
    ledger::Ledger,
};

const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;
const MAX_IDS: usize = 1000;

/// A page of the caller's dead letters.
pub(super) async fn list(ledger: &Ledger, request: ListDeadJobsRequest) -> Result<ListDeadJobsResponse> {
    let limit = match u32::try_from(request.page_size) {
        Ok(0) => DEFAULT_PAGE,
        Ok(size) if size <= MAX_PAGE => size,
        _ => return Err(Error::field("page_size", format!("must be 0 to {MAX_PAGE}"))),
    };
    let after = if request.page_token.is_empty() { None } else { Some(place(&request.page_token)?) };
    let page = DeadPage { owner: context::user(), queue: queue(&request.queue)?, after, limit: limit + 1 };
    let mut jobs = ledger.jobs().dead(&page).await?;
    let more = jobs.len() > limit as usize;
    jobs.truncate(limit as usize);
    let next_page_token = jobs.last().filter(|_| more).map(token).unwrap_or_default();
    let now = ledger.clock().now();
    Ok(ListDeadJobsResponse { jobs: jobs.iter().map(|job| encode::job(job, now)).collect(), next_page_token })
}

/// Applies a command to dead letters of the caller: all of a queue, or those named. Returns to how many; what is no
/// dead letter, or not the caller's, is left alone.
pub(super) async fn apply(
    ledger: &Ledger,
    ids: &[String],
    queue_name: &str,
    command: &Command,
) -> Result<u64> {
    if let Some(queue) = queue(queue_name)? {
        return apply_to_queue(ledger, queue, command).await;
    }
    if ids.is_empty() {
        return Err(Error::field("ids", "must not be empty when no queue is given"));
    }
    if ids.len() > MAX_IDS {
        return Err(Error::field("ids", format!("must be at most {MAX_IDS}, are {}", ids.len())));
    }
    let ids = ids.iter().map(|id| parse_id(id)).collect::<Result<Vec<Uuid>>>()?;
    apply_to(ledger, &ids, command).await
}

/// Page by page, so that a job that dies again meanwhile is not taken twice.
async fn apply_to_queue(ledger: &Ledger, queue: Queue, command: &Command) -> Result<u64> {
    let mut page = DeadPage { owner: context::user(), queue: Some(queue), after: None, limit: MAX_PAGE };
    let mut applied = 0;
    loop {
        let jobs = ledger.jobs().dead(&page).await?;
        let Some(last) = jobs.last() else { return Ok(applied) };
        page.after = Some((last.ended_at.unwrap_or_default(), last.id));
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.id).collect();
        applied += apply_to(ledger, &ids, command).await?;
    }
}

async fn apply_to(ledger: &Ledger, ids: &[Uuid], command: &Command) -> Result<u64> {
    let owner = Some(context::user());
    let change = |id: &Uuid| Change { id: *id, owner: owner.clone(), command: command.clone() };
    let changes = join_all(ids.iter().map(|id| ledger.change(change(id)))).await;
    let mut applied = 0;
    for changed in changes {
        applied += u64::from(changed?.is_ok());
    }
    Ok(applied)
}

fn queue(name: &str) -> Result<Option<Queue>> {
    if name.is_empty() { Ok(None) } else { name.parse().map(Some) }
}

fn token(job: &Job) -> String {
    let mut bytes = job.ended_at.unwrap_or_default().to_be_bytes().to_vec();
    bytes.extend_from_slice(job.id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn place(token: &str) -> Result<(Millis, Uuid)> {
    let malformed = || Error::field("page_token", "is malformed: it must be a next_page_token");
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| malformed())?;
    let (ended_at, id) = bytes.split_first_chunk::<8>().ok_or_else(malformed)?;
    let id = Uuid::from_slice(id).map_err(|_| malformed())?;
    Ok((Millis::from_be_bytes(*ended_at), id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_page_tokens_are_refused() {
        for token in ["x", "%%%", "AAAA", &URL_SAFE_NO_PAD.encode([0; 23]), &URL_SAFE_NO_PAD.encode([0; 25])]
        {
            assert!(place(token).unwrap_err().to_string().starts_with("page_token: "), "{token}");
        }
        assert!(place(&URL_SAFE_NO_PAD.encode([0; 24])).is_ok());
    }
}
