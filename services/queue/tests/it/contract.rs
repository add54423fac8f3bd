//! What the RPCs promise, through gRPC.

use std::time::Duration;

use weft_mesh::error::{CallError, ErrorKind};
use weft_proto::queue::v1::{
    CancelJobRequest, DiscardDeadJobsRequest, GetJobRequest, GetStatsRequest, Job, JobState,
    ListDeadJobsRequest, PublishRequest, RedriveJobsRequest, WatchJobRequest, watch_job_response::Event,
};
use weft_queue::{Queue, config::Role};
use weft_runtime::Listeners;
use weft_testkit::eventually;

use crate::world::{Backend, SOON, World, acting_for, ingest, on_every_backend, quick_config, reply};

on_every_backend! {
    an_unknown_queue_is_refused_by_its_fixed_reason,
    bad_fields_are_named_and_store_nothing,
    a_job_is_stored_once_per_key_and_per_id,
    a_job_is_nobody_elses,
    a_delayed_job_is_scheduled_and_can_be_cancelled_once,
    an_unknown_type_is_a_dead_letter_at_once_and_so_is_one_on_the_wrong_queue,
    dead_letters_are_listed_redriven_and_discarded,
    stats_count_every_queue,
}

/// A service that takes jobs and runs none.
async fn api_only(backend: Backend) -> World {
    World::with(backend, |config| config.roles = vec![Role::Api]).await
}

/// A dead letter: nothing handles its type.
async fn bury(world: &World) -> Job {
    let request = PublishRequest { r#type: "acme.Unheard".into(), ..ingest("d", 1) };
    world.publish(request).await.unwrap().job.unwrap()
}

async fn list_dead(world: &World, queue: &str, page_size: i32) -> Vec<String> {
    let mut ids = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListDeadJobsRequest { queue: queue.into(), page_size, page_token };
        let page = world.client.clone().list_dead_jobs(request).await.unwrap().into_inner();
        ids.extend(page.jobs.into_iter().map(|job| job.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return ids;
        }
    }
}

async fn an_unknown_queue_is_refused_by_its_fixed_reason(backend: Backend) {
    let world = api_only(backend).await;
    let error = world.publish(PublishRequest { queue: "mail".into(), ..ingest("d", 1) }).await.unwrap_err();
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::InvalidArgument, "INVALID_QUEUE"));
    assert_eq!(error.fields[0].field, "queue");
    let request = ListDeadJobsRequest { queue: "mail".into(), ..ListDeadJobsRequest::default() };
    let error = CallError::from(world.client.clone().list_dead_jobs(request).await.unwrap_err());
    assert_eq!(error.reason, "INVALID_QUEUE");
}

async fn bad_fields_are_named_and_store_nothing(backend: Backend) {
    let world = api_only(backend).await;
    let delay = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    for (request, field) in [
        (PublishRequest { payload: vec![0; (256 << 10) + 1].into(), ..ingest("d", 1) }, "payload"),
        (PublishRequest { delay, ..ingest("d", 1) }, "delay"),
        (PublishRequest { max_attempts: 101, ..ingest("d", 1) }, "max_attempts"),
        (PublishRequest { job_id: "x".into(), ..ingest("d", 1) }, "job_id"),
        (PublishRequest { r#type: String::new(), ..ingest("d", 1) }, "type"),
    ] {
        let error = world.publish(request).await.unwrap_err();
        assert_eq!((error.kind, error.fields[0].field.as_str()), (ErrorKind::InvalidArgument, field));
    }
    let mut client = world.client.clone();
    let error = client.get_job(GetJobRequest { id: String::new() }).await.unwrap_err();
    assert_eq!(CallError::from(error).fields[0].field, "id");
    let request = ListDeadJobsRequest { page_token: "junk".into(), ..ListDeadJobsRequest::default() };
    let error = client.list_dead_jobs(request).await.unwrap_err();
    assert_eq!(CallError::from(error).fields[0].field, "page_token");
    let stats = client.get_stats(GetStatsRequest {}).await.unwrap().into_inner();
    assert!(stats.queues.iter().all(|queue| queue.ready + queue.scheduled + queue.dead == 0));
}

async fn a_job_is_stored_once_per_key_and_per_id(backend: Backend) {
    let world = api_only(backend).await;
    let keyed = PublishRequest { idempotency_key: "once".into(), ..ingest("d", 1) };
    let first = world.publish(keyed.clone()).await.unwrap();
    let second = world.publish(keyed.clone()).await.unwrap();
    assert!(!first.existed && second.existed);
    assert_eq!(first.job, second.job);
    let job = first.job.unwrap();
    assert_eq!((job.state(), job.owner.as_str(), job.max_attempts), (JobState::Ready, "local", 5));
    let again = world.publish(PublishRequest { job_id: job.id.clone(), ..ingest("d", 1) }).await.unwrap();
    assert_eq!(again.job.unwrap().id, job.id);
    let other = acting_for("bob", world.publish(keyed)).await.unwrap();
    assert_ne!(other.job.unwrap().id, job.id, "another user's key is another key");
}

async fn a_job_is_nobody_elses(backend: Backend) {
    let world = api_only(backend).await;
    let id = world.publish(ingest("d", 1)).await.unwrap().job.unwrap().id;
    let mut client = world.client.clone();
    acting_for("bob", async {
        let get = client.get_job(GetJobRequest { id: id.clone() }).await.map(drop).unwrap_err();
        let cancel = client.cancel_job(CancelJobRequest { id: id.clone() }).await.map(drop).unwrap_err();
        let request = WatchJobRequest { id: id.clone(), after_sequence: 0 };
        let watch = client.watch_job(request).await.map(drop).unwrap_err();
        for error in [get, cancel, watch] {
            assert_eq!(CallError::from(error).kind, ErrorKind::NotFound);
        }
        let taken = PublishRequest { job_id: id.clone(), ..ingest("d", 1) };
        assert_eq!(world.publish(taken).await.unwrap_err().reason, "JOB_ID_TAKEN");
    })
    .await;
    let dead = bury(&world).await;
    acting_for("bob", async {
        assert_eq!(list_dead(&world, "", 10).await, Vec::<String>::new());
        let request = RedriveJobsRequest { ids: vec![dead.id.clone()], queue: String::new() };
        assert_eq!(client.redrive_jobs(request).await.unwrap().into_inner().redriven, 0);
    })
    .await;
}

async fn a_delayed_job_is_scheduled_and_can_be_cancelled_once(backend: Backend) {
    let world = World::start(backend).await;
    let delay = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    let job = world.publish(PublishRequest { delay, ..ingest("d", 1) }).await.unwrap().job.unwrap();
    assert_eq!(job.state(), JobState::Scheduled);
    let mut client = world.client.clone();
    let cancel = CancelJobRequest { id: job.id.clone() };
    let cancelled = client.cancel_job(cancel.clone()).await.unwrap().into_inner().job.unwrap();
    assert_eq!(cancelled.state(), JobState::Cancelled);
    assert!(cancelled.ended_at.is_some());
    let again = client.cancel_job(cancel).await.unwrap().into_inner().job.unwrap();
    assert_eq!(again, cancelled);
    let events = world.watch(&job.id).await;
    assert!(
        matches!(&events[..], [only] if matches!(&only.event, Some(Event::Ended(job)) if job == &cancelled))
    );
    let dead = CancelJobRequest { id: bury(&world).await.id };
    let error = CallError::from(client.cancel_job(dead).await.unwrap_err());
    assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::FailedPrecondition, "JOB_ENDED"));
}

async fn an_unknown_type_is_a_dead_letter_at_once_and_so_is_one_on_the_wrong_queue(backend: Backend) {
    let world = World::start(backend).await;
    let job = bury(&world).await;
    assert_eq!((job.state(), job.attempts), (JobState::Dead, 0));
    assert!(job.errors[0].message.contains("acme.Unheard"));
    let astray = PublishRequest { queue: "chat_queue".into(), ..ingest("d", 1) };
    assert_eq!(world.publish(astray).await.unwrap().job.unwrap().state(), JobState::Dead);
    let garbled = PublishRequest { payload: vec![0xff; 9].into(), ..reply("c", "m") };
    let garbled = world.publish(garbled).await.unwrap().job.unwrap();
    let dead = world.reaches(&garbled.id, JobState::Dead).await;
    assert_eq!(dead.attempts, 1, "a payload that cannot be read is not read again");
}

async fn dead_letters_are_listed_redriven_and_discarded(backend: Backend) {
    let world = api_only(backend).await;
    let mut buried = Vec::new();
    for _ in 0..5 {
        buried.insert(0, bury(&world).await.id);
    }
    assert_eq!(list_dead(&world, "document_queue", 2).await, buried);
    assert_eq!(list_dead(&world, "chat_queue", 2).await, Vec::<String>::new());
    let mut client = world.client.clone();
    let ids = vec![buried[0].clone(), uuid::Uuid::nil().to_string()];
    let discard = DiscardDeadJobsRequest { ids, queue: String::new() };
    assert_eq!(client.discard_dead_jobs(discard).await.unwrap().into_inner().discarded, 1);
    let discarded = world.job(&buried[0]).await;
    assert_eq!((discarded.state(), discarded.errors.len()), (JobState::Cancelled, 1), "it keeps its history");
    let redrive = RedriveJobsRequest { ids: Vec::new(), queue: "document_queue".into() };
    assert_eq!(client.redrive_jobs(redrive.clone()).await.unwrap().into_inner().redriven, 4);
    assert_eq!(client.redrive_jobs(redrive).await.unwrap().into_inner().redriven, 0);
    let redriven = world.job(&buried[1]).await;
    assert_eq!((redriven.state(), redriven.attempts, redriven.errors.len()), (JobState::Ready, 0, 1));
    let error = client.redrive_jobs(RedriveJobsRequest::default()).await.unwrap_err();
    assert_eq!(CallError::from(error).fields[0].field, "ids");
}

async fn stats_count_every_queue(backend: Backend) {
    let world = api_only(backend).await;
    let delay = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    world.publish(ingest("d", 1)).await.unwrap();
    world.publish(PublishRequest { delay, ..ingest("d", 1) }).await.unwrap();
    bury(&world).await;
    let stats = || async { world.client.clone().get_stats(GetStatsRequest {}).await.unwrap().into_inner() };
    eventually(SOON, || async { stats().await.broker_connected && stats().await.unpublished == 0 }).await;
    let stats = stats().await;
    assert_eq!((stats.jobs_backend.as_str(), stats.broker_backend.as_str()), backend.names());
    assert!(!stats.worker);
    let names: Vec<&str> = stats.queues.iter().map(|queue| queue.queue.as_str()).collect();
    assert_eq!(names, ["chat_queue", "document_queue", "notification_queue"]);
    let document = &stats.queues[1];
    assert_eq!((document.ready, document.scheduled, document.dead), (1, 1, 1));
    let age = Duration::try_from(document.oldest_ready_age.unwrap()).unwrap();
    assert!(age < Duration::from_secs(60));
}

#[tokio::test]
async fn an_unusable_place_for_jobs_is_an_error_at_start_that_names_the_key_and_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "a letter, and no folder".repeat(100)).unwrap();
    std::fs::create_dir_all(folder.path().join("taken/jobs.sqlite")).unwrap();
    let closed = closed(&folder.path().join("closed"));
    let of_data_dir = [Some(file.join("queue")), Some(folder.path().join("taken")), closed];
    let of_data_dir = of_data_dir.into_iter().flatten().map(|path| ("data_dir", path));
    let of_url = [("jobs.url", file.join("jobs.sqlite")), ("jobs.url", file.clone())];
    for (key, path) in of_data_dir.chain(of_url) {
        let mut config = quick_config();
        match key {
            "data_dir" => config.data_dir = path.clone(),
            _ => config.jobs.url = format!("sqlite:{}", path.display()).into(),
        }
        let listeners = Listeners::bind(&config).await.unwrap();
        let error = weft_runtime::start::<Queue>(config, listeners).await.unwrap_err();
        let text = error.to_string();
        let place = if path.ends_with("jobs.sqlite") { path.parent().unwrap() } else { &path };
        assert!(text.starts_with(&format!("{key}: ")), "{error:#}");
        assert!(text.contains(&place.display().to_string()), "{error:#}");
    }
}

/// A folder that may not be used; `None` for root, who may use any.
fn closed(path: &std::path::Path) -> Option<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::create_dir(path).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::read_dir(path).is_err().then(|| path.to_owned())
}
