//! Sentence 22: what writes owe.

use std::{collections::HashSet, time::Duration};

use futures::future::join_all;
use weft_database::repository::outbox::{Effect, Entity, Kind};

use super::on_every_engine;
use crate::fixture::Fixture;

const LEASE: Duration = Duration::from_secs(60);

on_every_engine! {
    c22_effects_are_stored_with_the_write,
    c22_a_claim_is_one_relays,
}

async fn c22_effects_are_stored_with_the_write(fixture: &Fixture) {
    let repository = &fixture.repository;
    let chat = fixture.chat("ada").await;
    let posted = repository.post_message("ada", chat.clone(), "hi".into(), None).await.unwrap();
    // user, chat; chat, job.
    assert_eq!(repository.owed().await.unwrap().depth, 4);

    let lost = repository.post_message("ada", "no such chat".into(), "hi".into(), None).await;
    assert!(lost.is_err());
    assert_eq!(repository.owed().await.unwrap().depth, 4);

    let ids = posted.owed.iter().map(|owed| owed.id.clone()).collect();
    repository.settle_owed(ids).await.unwrap();
    assert_eq!(repository.owed().await.unwrap().depth, 2);
    let forget = Effect::Invalidate { entity: Entity::Chat, id: chat };
    assert!(posted.owed.iter().any(|owed| owed.effect == forget && owed.owner == "ada"));
}

async fn c22_a_claim_is_one_relays(fixture: &Fixture) {
    let repository = &fixture.repository;
    // Notifications of failed documents are due at once.
    for n in 0..40 {
        let document = fixture.put("ada", &format!("{n}.md"), "x").await.value.document;
        repository.fail_document("ada", document.id, 1, "no".into()).await.unwrap();
    }
    let claims = join_all((0..8).map(|_| repository.claim_owed(Kind::Publish, 10, LEASE))).await;
    let claimed: Vec<_> = claims.into_iter().flat_map(Result::unwrap).collect();
    let unique: HashSet<_> = claimed.iter().map(|claim| claim.owed.id.clone()).collect();
    assert_eq!(claimed.len(), unique.len(), "no effect is claimed twice");
    assert!(claimed.iter().all(|claim| claim.attempts == 1 && claim.owed.owner == "ada"));
    // The documents' own jobs are due too, once their writer's head start is over.
    let is_notification =
        |effect: &Effect| matches!(effect, Effect::Publish { queue, .. } if queue == "notification_queue");
    assert_eq!(claimed.iter().filter(|claim| is_notification(&claim.owed.effect)).count(), 40);

    repository.defer_owed(claimed[0].owed.id.clone(), Duration::ZERO, "away".into()).await.unwrap();
    assert!(repository.is_owing(Kind::Publish).await.unwrap());
    let again = repository.claim_owed(Kind::Publish, 100, LEASE).await.unwrap();
    let again: Vec<_> = again.iter().filter(|claim| unique.contains(&claim.owed.id)).collect();
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].attempts, &again[0].owed), (2, &claimed[0].owed));
}
