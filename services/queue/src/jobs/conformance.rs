//! The contract of [`Jobs`](super::Jobs), sentence by sentence, for every implementation.

mod claims;
mod delivery;
mod lists;
mod model;
mod records;

use std::{any::Any, sync::Arc};

use futures::future::BoxFuture;
use uuid::Uuid;

use super::{Change, Claimed, Inserted, Jobs};
use crate::{
    clock::Millis,
    job::{Job, NewJob, Queue, machine::Command},
};

pub(super) use claims::*;
pub(super) use delivery::*;
pub(super) use lists::*;
pub(super) use model::*;
pub(super) use records::*;

/// When the tests begin.
pub(super) const START: Millis = 1_700_000_000_000;
pub(super) const LEASE: Millis = 30_000;

/// A store under test.
pub(super) struct Store {
    pub(super) jobs: Arc<dyn Jobs>,
    /// Opens the same store again.
    pub(super) reopen: Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Jobs>> + Send + Sync>,
    /// Whatever has to live as long.
    pub(super) _guard: Box<dyn Any + Send + Sync>,
}

/// Runs every test of the contract on the store that `$open().await` opens, a fresh one for each.
macro_rules! run {
    ($open:path; $($test:ident)*) => {
        $(#[tokio::test]
        async fn $test() {
            $crate::jobs::conformance::$test($open().await).await;
        })*
    };
    ($open:path) => {
        $crate::jobs::conformance::run!($open;
            c01_insert_stores_all_and_returns_them_in_order
            c02_a_known_id_or_key_returns_the_first_job
            c02_concurrent_inserts_of_one_key_make_one_job
            c03_keys_of_other_owners_and_queues_are_others
            c04_dead_on_arrival
            c05_due_lists_what_is_due_longest_first
            c06_claim_leases_what_is_due_once
            c06_concurrent_claims_have_one_winner
            c07_changes_apply_in_order_and_number_events
            c07_refused_changes_leave_the_others_in_force
            c07_a_stalled_worker_is_fenced
            c08_an_owner_guards
            c09_events_come_in_order_from_anywhere
            c10_expired_lists_ended_leases
            c11_reserved_jobs_are_nobody_elses
            c11_marking_takes_off_for_good
            c11_returned_jobs_are_anybodys
            c12_whoever_waits_again_is_unpublished
            c13_lost_deliveries_are_unpublished
            c14_dead_letters_page_without_gaps
            c15_depths_count_by_state
            c16_forget_keeps_the_dead_and_the_living
            c17_what_was_acknowledged_is_there_after_reopening
            the_store_does_what_the_model_does
        );
    };
}
pub(super) use run;

pub(super) fn new_job(number: u128) -> NewJob {
    NewJob {
        id: Uuid::from_u128(number),
        queue: Queue::Document,
        kind: "weft.queue.v1.IngestDocument".into(),
        owner: "ada".into(),
        payload: format!("payload {number}").into_bytes(),
        idempotency_key: None,
        max_attempts: 3,
        due_at: START,
        traceparent: format!("00-{number:032x}-00000000000000aa-01"),
        dead_on_arrival: None,
    }
}

pub(super) async fn insert(store: &Store, jobs: &[NewJob]) -> Vec<Inserted> {
    store.jobs.insert(jobs, START).await.unwrap()
}

pub(super) async fn claim(store: &Store, number: u128, now: Millis) -> Option<Claimed> {
    let ids = [Uuid::from_u128(number)];
    store.jobs.claim(&ids, "worker", now + LEASE, now).await.unwrap().pop()
}

pub(super) async fn change(
    store: &Store,
    number: u128,
    command: Command,
    now: Millis,
) -> Result<Job, super::Rejection> {
    let change = Change::new(Uuid::from_u128(number), command);
    store.jobs.apply(&[change], now).await.unwrap().pop().unwrap()
}

pub(super) async fn get(store: &Store, number: u128) -> Option<Job> {
    store.jobs.get(&[Uuid::from_u128(number)]).await.unwrap().pop()
}

/// A job that has become a dead letter at a time.
pub(super) async fn bury(store: &Store, number: u128, now: Millis) {
    let claimed = claim(store, number, now).await.unwrap();
    let bury = Command::Bury { epoch: claimed.job.epoch, error: format!("error {number}") };
    change(store, number, bury, now).await.unwrap();
}

pub(super) async fn succeed(store: &Store, number: u128, now: Millis) {
    let claimed = claim(store, number, now).await.unwrap();
    let succeed = Command::Succeed { epoch: claimed.job.epoch, events: Vec::new() };
    change(store, number, succeed, now).await.unwrap();
}
