//! WatchJob: recorded then live, resumable, many at once, ended when draining.

use std::time::Duration;

use futures::future::join_all;
use weft_mesh::{
    Channel,
    error::{CallError, ErrorKind},
};
use weft_proto::queue::v1::{
    GetStatsRequest, JobState, WatchJobRequest, queue_service_client::QueueServiceClient,
    watch_job_response::Event,
};
use weft_testkit::eventually;

use crate::{
    fake::provider::{Provider, answer},
    world::{Backend, SOON, World, ingest, on_every_backend, reply, start},
};

on_every_backend! {
    a_stream_is_resumed_after_any_event_without_gap_or_repetition,
    many_watchers_hold_no_connection_of_the_store,
    any_replica_serves_any_job,
    a_replica_that_drains_ends_its_streams_so_that_they_go_on_elsewhere,
}

async fn a_stream_is_resumed_after_any_event_without_gap_or_repetition(backend: Backend) {
    let words: Vec<String> = (0..40).map(|i| format!("word{i} ")).collect();
    let pieces: Vec<&str> = words.iter().map(String::as_str).collect();
    let provider = Provider::start([answer(&pieces)]).await;
    let world = World::with(backend, |config| {
        config.provider.base_url = provider.base_url();
        config.provider.model = "m".into();
    })
    .await;
    world.surroundings.state.add_message("c", "m", "Count.");
    let id = world.publish(reply("c", "m")).await.unwrap().job.unwrap().id;
    let all = world.watch(&id).await;
    let sequences: Vec<u64> = all.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=all.len() as u64).collect::<Vec<u64>>());
    for after_sequence in 0..all.len() as u64 {
        let request = WatchJobRequest { id: id.clone(), after_sequence };
        let mut rest = world.client.clone().watch_job(request).await.unwrap().into_inner();
        let mut got = Vec::new();
        while let Some(event) = rest.message().await.unwrap() {
            got.push(event);
        }
        assert_eq!(got, all[after_sequence as usize..]);
    }
    let request = WatchJobRequest { id, after_sequence: all.len() as u64 };
    let mut nothing = world.client.clone().watch_job(request).await.unwrap().into_inner();
    assert_eq!(nothing.message().await.unwrap(), None, "the job has ended, and nothing is left to tell");
}

async fn many_watchers_hold_no_connection_of_the_store(backend: Backend) {
    let world = World::start(backend).await;
    world.surroundings.state.add_document("d", "a.md", "text/markdown", b"# Title\n\nText.");
    world.surroundings.state.close().await;
    let id = world.publish(ingest("d", 1)).await.unwrap().job.unwrap().id;
    let watch = || async {
        let request = WatchJobRequest { id: id.clone(), after_sequence: 0 };
        world.client.clone().watch_job(request).await.unwrap().into_inner()
    };
    // Far more than the store has connections, and all of them wait.
    let streams = join_all((0..200).map(|_| watch())).await;
    let mut client = world.client.clone();
    for _ in 0..20 {
        let stats = client.get_stats(GetStatsRequest {});
        tokio::time::timeout(Duration::from_secs(10), stats).await.expect("a free connection").unwrap();
    }
    world.surroundings.state.open();
    let ends = streams.into_iter().map(|mut stream| async move {
        let mut last = None;
        while let Some(event) = stream.message().await.unwrap() {
            last = event.event;
        }
        matches!(last, Some(Event::Ended(job)) if job.state() == JobState::Succeeded)
    });
    let all = tokio::time::timeout(SOON, join_all(ends)).await.expect("all of them end");
    assert!(all.into_iter().all(|ended| ended));
}

async fn any_replica_serves_any_job(backend: Backend) {
    let world = World::start(backend).await;
    let mut other = world.config.clone();
    other.roles = vec![weft_queue::config::Role::Api];
    let other = start(&other).await;
    let mut client = QueueServiceClient::new(Channel::direct(other.address));
    world.surroundings.state.add_document("d", "a.md", "text/markdown", b"# Title\n\nText.");
    world.surroundings.state.close().await;
    let id = world.publish(ingest("d", 1)).await.unwrap().job.unwrap().id;
    let request = WatchJobRequest { id, after_sequence: 0 };
    let mut stream = client.watch_job(request).await.unwrap().into_inner();
    world.surroundings.state.open();
    let mut last = None;
    while let Some(event) = tokio::time::timeout(SOON, stream.message()).await.expect("an event").unwrap() {
        last = event.event;
    }
    assert!(matches!(last, Some(Event::Ended(_))));
    other.stop().await;
}

async fn a_replica_that_drains_ends_its_streams_so_that_they_go_on_elsewhere(backend: Backend) {
    let mut world = World::start(backend).await;
    world.surroundings.state.add_document("d", "a.md", "text/markdown", b"# Title\n\nText.");
    world.surroundings.state.close().await;
    let id = world.publish(ingest("d", 1)).await.unwrap().job.unwrap().id;
    world.reaches(&id, JobState::Running).await;
    let request = WatchJobRequest { id: id.clone(), after_sequence: 0 };
    let mut stream = world.client.clone().watch_job(request).await.unwrap().into_inner();
    let state = world.surroundings.state.clone();
    let running = world.running.take().unwrap();
    let (stopped, error) = tokio::join!(running.stop(), async {
        let error = loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended as if the job had"),
                Err(error) => break error,
            }
        };
        state.open();
        error
    });
    let () = stopped;
    assert_eq!(CallError::from(error).kind, ErrorKind::Unavailable);
    world.restart().await;
    eventually(SOON, || async { world.job(&id).await.state() == JobState::Succeeded }).await;
}
