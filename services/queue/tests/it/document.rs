//! Document jobs from Publish to READY or FAILED.

use std::time::Duration;

use tonic::Code;
use weft_proto::{
    database::v1::DocumentState,
    queue::v1::{JobState, PublishRequest, watch_job_response::Event},
};
use weft_testkit::eventually;

use crate::{
    fake::provider::{Provider, Script},
    world::{Backend, SOON, World, acting_for, ingest, on_every_backend},
};

on_every_backend! {
    a_markdown_document_becomes_ready_with_chunks_headings_and_embeddings,
    workers_act_for_the_owner_of_the_job,
    what_is_not_what_it_says_fails_with_the_reason_and_is_not_tried_again,
    hostile_documents_fail_and_harm_no_other,
    an_older_version_and_a_deleted_document_are_left_alone,
    temporary_failures_are_tried_again_and_the_schedule_is_told,
    exhausted_attempts_fail_the_document_and_leave_a_dead_letter_that_can_be_redriven,
    the_database_may_go_and_come_back,
    embeddings_come_from_the_configured_endpoint_in_batches_and_in_order,
    an_embeddings_endpoint_that_never_ends_costs_an_attempt_and_no_memory,
}

async fn run(world: &World, id: &str) -> weft_proto::queue::v1::Job {
    let job = world.publish(ingest(id, 1)).await.unwrap().job.unwrap();
    world.watch(&job.id).await;
    world.job(&job.id).await
}

async fn a_markdown_document_becomes_ready_with_chunks_headings_and_embeddings(backend: Backend) {
    let world = World::start(backend).await;
    let text =
        format!("# Pool\n\n{0}\n\n## Idle\n\nIdle connections are closed. {0}", "It keeps ten. ".repeat(50));
    world.surroundings.state.add_document("d", "docs/pool.md", "text/markdown", text.as_bytes());
    let job = world.publish(ingest("d", 1)).await.unwrap().job.unwrap();
    let events = world.watch(&job.id).await;
    let document = world.surroundings.state.document("d");
    assert_eq!(document.state(), DocumentState::Ready, "{}", document.reason);
    let chunks = world.surroundings.state.lock().chunks["d"].clone();
    assert!(chunks.len() >= 2);
    assert_eq!(chunks.last().unwrap().heading, "Pool > Idle");
    assert!(chunks.iter().enumerate().all(|(i, chunk)| chunk.ordinal as usize == i));
    assert!(chunks.iter().all(|chunk| chunk.embedding.len() == 384 * 4));
    let mut stages: Vec<String> = events
        .iter()
        .filter_map(|event| match &event.event {
            Some(Event::Progress(progress)) => Some(progress.stage.clone()),
            _ => None,
        })
        .collect();
    stages.dedup(); // one of a stage or several, as it happens
    assert_eq!(stages, ["fetch", "extract", "embed", "store"]);
    assert!(
        matches!(&events.last().unwrap().event, Some(Event::Ended(job)) if job.state() == JobState::Succeeded)
    );
    assert!(world.surroundings.state.lock().users.iter().all(|user| user == "local"));
}

async fn workers_act_for_the_owner_of_the_job(backend: Backend) {
    let world = World::start(backend).await;
    world.surroundings.state.add_document("d", "a.txt", "text/plain", b"hello there");
    let job = acting_for("ada", world.publish(ingest("d", 1))).await.unwrap().job.unwrap();
    acting_for("ada", world.watch(&job.id)).await;
    assert!(world.surroundings.state.lock().users.iter().all(|user| user == "ada"));
}

async fn what_is_not_what_it_says_fails_with_the_reason_and_is_not_tried_again(backend: Backend) {
    let world = World::start(backend).await;
    let state = &world.surroundings.state;
    state.add_document("pdf", "a.md", "text/markdown", b"%PDF-1.7 and so on");
    state.add_document("latin", "b.txt", "text/plain", b"caf\xe9");
    state.add_document("nul", "c.rs", "text/x-rust", b"fn\0main");
    for (id, reason) in [("pdf", "PDF"), ("latin", "offset 3"), ("nul", "NUL byte at offset 2")] {
        let job = run(&world, id).await;
        let document = state.document(id);
        assert_eq!(
            (document.state(), job.state(), job.attempts),
            (DocumentState::Failed, JobState::Succeeded, 1)
        );
        assert!(document.reason.contains(reason), "{}", document.reason);
    }
}

async fn hostile_documents_fail_and_harm_no_other(backend: Backend) {
    let world = World::with(backend, |config| {
        config.extractor.timeout = Duration::from_secs(10);
        config.extractor.memory_bytes = 128 << 20;
    })
    .await;
    let state = &world.surroundings.state;
    let hostile =
        [("crash", "crashed"), ("hang", "took longer than"), ("memory", "more memory than allowed")];
    for (id, _) in hostile {
        state.add_document(id, &format!("{id}.txt"), &format!("test/{id}"), b"boo");
    }
    for i in 0..10 {
        state.add_document(&format!("good{i}"), "good.md", "text/markdown", b"# Good\n\nVery good.");
    }
    let good: Vec<String> = (0..10).map(|i| format!("good{i}")).collect();
    for id in hostile.iter().map(|(id, _)| (*id).to_owned()).chain(good.clone()) {
        world.publish(ingest(&id, 1)).await.unwrap();
    }
    let done = |id: &str| state.document(id).state() != DocumentState::Pending;
    eventually(SOON, || async { hostile.iter().all(|(id, _)| done(id)) && good.iter().all(|id| done(id)) })
        .await;
    for (id, reason) in hostile {
        let document = state.document(id);
        assert_eq!(document.state(), DocumentState::Failed);
        assert!(document.reason.contains(reason), "{id}: {}", document.reason);
    }
    assert!(good.iter().all(|id| state.document(id).state() == DocumentState::Ready));
}

async fn an_older_version_and_a_deleted_document_are_left_alone(backend: Backend) {
    let world = World::start(backend).await;
    let state = &world.surroundings.state;
    state.add_document("d", "a.md", "text/markdown", b"# New");
    state.lock().documents.get_mut("d").unwrap().version = 2;
    assert_eq!(run(&world, "d").await.state(), JobState::Succeeded);
    assert_eq!(run(&world, "gone").await.state(), JobState::Succeeded);
    assert_eq!(state.calls("get_asset") + state.calls("complete_document") + state.calls("fail_document"), 0);
}

async fn temporary_failures_are_tried_again_and_the_schedule_is_told(backend: Backend) {
    let world = World::start(backend).await;
    let state = &world.surroundings.state;
    state.add_document("d", "a.md", "text/markdown", b"# Title\n\nText.");
    state.lock().failures.extend([Code::Internal, Code::Internal]);
    let job = world.publish(ingest("d", 1)).await.unwrap().job.unwrap();
    let events = world.watch(&job.id).await;
    let retries: Vec<u32> = events
        .iter()
        .filter_map(|event| match &event.event {
            Some(Event::Retry(retry)) => Some(retry.error.as_ref().unwrap().attempt),
            _ => None,
        })
        .collect();
    assert_eq!(retries, [1, 2]);
    let job = world.job(&job.id).await;
    assert_eq!((job.state(), job.attempts, job.errors.len()), (JobState::Succeeded, 3, 2));
    assert_eq!(state.document("d").state(), DocumentState::Ready);
}

async fn exhausted_attempts_fail_the_document_and_leave_a_dead_letter_that_can_be_redriven(backend: Backend) {
    let world = World::start(backend).await;
    let state = &world.surroundings.state;
    state.add_document("d", "a.md", "text/markdown", b"# Title\n\nText.");
    state.lock().failures.extend([Code::Internal; 2]);
    let request = PublishRequest { max_attempts: 2, ..ingest("d", 1) };
    let id = world.publish(request).await.unwrap().job.unwrap().id;
    let job = world.reaches(&id, JobState::Dead).await;
    assert_eq!((job.attempts, job.errors.len()), (2, 2));
    let document = state.document("d");
    assert_eq!(document.state(), DocumentState::Failed);
    assert!(document.reason.contains("told to fail"), "{}", document.reason);
    let redrive = weft_proto::queue::v1::RedriveJobsRequest { ids: vec![id.clone()], queue: String::new() };
    world.client.clone().redrive_jobs(redrive).await.unwrap();
    let job = world.reaches(&id, JobState::Succeeded).await;
    assert_eq!(job.errors.len(), 2, "its history stays");
    assert_eq!(state.document("d").state(), DocumentState::Ready);
}

async fn the_database_may_go_and_come_back(backend: Backend) {
    let mut world = World::with(backend, |config| config.retry.max_attempts = 100).await;
    world.surroundings.state.add_document("d", "a.md", "text/markdown", b"# Title\n\nText.");
    world.surroundings.stop().await;
    let id = world.publish(ingest("d", 1)).await.unwrap().job.unwrap().id;
    eventually(SOON, || async { world.job(&id).await.attempts >= 2 }).await;
    world.surroundings.restart().await;
    world.reaches(&id, JobState::Succeeded).await;
    assert_eq!(world.surroundings.state.document("d").state(), DocumentState::Ready);
}

async fn embeddings_come_from_the_configured_endpoint_in_batches_and_in_order(backend: Backend) {
    let provider = Provider::start([]).await;
    let world = World::with(backend, |config| {
        config.embedding.base_url = provider.base_url();
        config.embedding.model = "embedder".into();
        config.embedding.api_key = "sesame".into();
        config.embedding.batch = 2;
    })
    .await;
    let text = (0..5).map(|i| format!("# Heading {i}\n\n{}\n\n", "words ".repeat(150))).collect::<String>();
    world.surroundings.state.add_document("d", "a.md", "text/markdown", text.as_bytes());
    run(&world, "d").await;
    let chunks = world.surroundings.state.lock().chunks["d"].clone();
    let one: Vec<u8> = [1.0f32, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert!(chunks.iter().all(|chunk| chunk.embedding == one), "normalised");
    let requests = provider.requests();
    assert_eq!(requests.len(), chunks.len().div_ceil(2));
    assert!(requests.iter().all(|(headers, _)| headers["authorization"] == "Bearer sesame"));
    assert!(requests[0].1["input"][0].as_str().unwrap().contains("Heading 0"));
}

async fn an_embeddings_endpoint_that_never_ends_costs_an_attempt_and_no_memory(backend: Backend) {
    let provider = Provider::start([Script::Endless]).await;
    let world = World::with(backend, |config| {
        config.embedding.base_url = provider.base_url();
        config.embedding.model = "embedder".into();
        // The answer is ended by its size, not by the time it takes.
        config.embedding.timeout = 10 * SOON;
    })
    .await;
    world.surroundings.state.add_document("d", "a.md", "text/markdown", b"# Title\n\nText.");
    let job = run(&world, "d").await;
    assert_eq!((job.state(), job.attempts), (JobState::Succeeded, 2));
    assert!(job.errors[0].message.contains("more than 196608 bytes"), "{}", job.errors[0].message);
}
