//! Jobs and their workers: cancelled, stopped, killed, delivered twice.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use weft_proto::{
    database::v1::DocumentState,
    queue::v1::{CancelJobRequest, JobState, PublishRequest, WatchJobRequest, watch_job_response::Event},
};
use weft_queue::config::{Config, Role};
use weft_testkit::{eventually, hermetic};

use crate::world::{Backend, SOON, World, ingest};

const DOCUMENT: &[u8] = b"# Title\n\nText.";

/// A worker in a process of its own, which can be killed.
struct Worker {
    child: Child,
    _folder: tempfile::TempDir,
}

impl Worker {
    fn start(config: &Config) -> Worker {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.toml");
        let worker = format!(
            "address = \"127.0.0.1:0\"\nroles = [\"worker\"]\nadmin = {{ address = \"127.0.0.1:0\" }}\n\
             jobs = {{ url = \"sqlite:{}\" }}\nworkers = {{ lease = \"1s\", heartbeat = \"200ms\" }}\n\
             database = {{ addresses = [\"{}\"] }}\nassets = {{ addresses = [\"{}\"] }}\n",
            config.data_dir.join("jobs.sqlite").display(),
            config.database.addresses[0],
            config.assets.addresses[0],
        );
        std::fs::write(&path, worker).unwrap();
        let mut command = hermetic(env!("CARGO_BIN_EXE_weft-queue"));
        let child =
            command.arg("--config").arg(&path).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        Worker { child, _folder: folder }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_killed_worker_costs_an_attempt_and_another_finishes_the_job() {
    let world = World::with(Backend::Embedded, |config| config.roles = vec![Role::Api]).await;
    let state = &world.surroundings.state;
    state.add_document("d", "a.md", "text/markdown", DOCUMENT);
    state.close().await;
    let victim = Worker::start(&world.config);
    let id = world.publish(ingest("d", 1)).await.unwrap().job.unwrap().id;
    world.reaches(&id, JobState::Running).await;
    victim.kill();
    state.open();
    let _heir = Worker::start(&world.config);
    let job = world.reaches(&id, JobState::Succeeded).await;
    assert_eq!(job.attempts, 2);
    assert!(job.errors[0].message.contains("not heard of"), "{}", job.errors[0].message);
    assert_eq!(state.document("d").state(), DocumentState::Ready);
    let retries =
        world.watch(&id).await.into_iter().filter(|event| matches!(event.event, Some(Event::Retry(_))));
    assert_eq!(retries.count(), 1);
}

#[tokio::test]
async fn a_worker_that_stalled_and_wakes_up_changes_nothing_any_more() {
    let world = World::with(Backend::Embedded, |config| config.roles = vec![Role::Api]).await;
    let state = &world.surroundings.state;
    state.add_document("d", "a.md", "text/markdown", DOCUMENT);
    state.close().await;
    let stalled = Worker::start(&world.config);
    let id = world.publish(ingest("d", 1)).await.unwrap().job.unwrap().id;
    eventually(SOON, || async { state.calls("get_document") == 1 }).await;
    stalled.signal("STOP");
    state.open();
    let heir = Worker::start(&world.config);
    let done = world.reaches(&id, JobState::Succeeded).await;
    assert_eq!(done.attempts, 2);
    let log = world.watch(&id).await;
    stalled.signal("CONT");
    // Awake again it takes and finishes other jobs, so it has had its say on the first one.
    drop(heir);
    state.add_document("e", "b.md", "text/markdown", DOCUMENT);
    let other = world.publish(ingest("e", 1)).await.unwrap().job.unwrap().id;
    world.reaches(&other, JobState::Succeeded).await;
    assert_eq!(world.job(&id).await, done);
    assert_eq!(world.watch(&id).await, log);
}

#[tokio::test]
async fn a_job_that_kills_every_worker_ends_dead_and_its_document_failed() {
    let world = World::with(Backend::Embedded, |config| config.roles = vec![Role::Api]).await;
    let state = &world.surroundings.state;
    state.add_document("d", "a.md", "text/markdown", DOCUMENT);
    state.close().await;
    let request = PublishRequest { max_attempts: 1, ..ingest("d", 1) };
    let victim = Worker::start(&world.config);
    let id = world.publish(request).await.unwrap().job.unwrap().id;
    world.reaches(&id, JobState::Running).await;
    victim.kill();
    state.open();
    let _heir = Worker::start(&world.config);
    world.reaches(&id, JobState::Dead).await;
    let document = state.document("d");
    assert_eq!(document.state(), DocumentState::Failed);
    assert!(document.reason.contains("died or hung"), "{}", document.reason);
}

#[tokio::test]
async fn a_running_job_is_cancelled_at_its_next_heartbeat() {
    let world = World::with(Backend::Embedded, |config| {
        config.workers.heartbeat = Duration::from_millis(50);
        config.workers.lease = Duration::from_secs(5);
    })
    .await;
    let state = &world.surroundings.state;
    state.add_document("d", "a.md", "text/markdown", DOCUMENT);
    state.close().await;
    let id = world.publish(ingest("d", 1)).await.unwrap().job.unwrap().id;
    world.reaches(&id, JobState::Running).await;
    let request = CancelJobRequest { id: id.clone() };
    let asked = world.client.clone().cancel_job(request).await.unwrap().into_inner().job.unwrap();
    assert!(asked.cancel_requested || asked.state() == JobState::Cancelled);
    world.reaches(&id, JobState::Cancelled).await;
    state.open();
    assert_eq!(state.document("d").state(), DocumentState::Pending, "its work was not finished");
}

#[tokio::test]
async fn draining_lets_a_running_job_finish() {
    let mut world = World::start(Backend::Embedded).await;
    let state = world.surroundings.state.clone();
    state.add_document("d", "a.md", "text/markdown", DOCUMENT);
    state.close().await;
    let id = world.publish(ingest("d", 1)).await.unwrap().job.unwrap().id;
    eventually(SOON, || async { state.calls("get_document") == 1 }).await;
    let running = world.running.take().unwrap();
    let request = WatchJobRequest { id: id.clone(), after_sequence: 0 };
    let mut watching = world.client.clone().watch_job(request).await.unwrap().into_inner();
    tokio::join!(running.stop(), async {
        // Draining ends the streams: it has begun, with the job still in hand.
        while watching.message().await.is_ok_and(|event| event.is_some()) {}
        state.open();
    });
    assert_eq!(state.document("d").state(), DocumentState::Ready);
    world.restart().await;
    let job = world.job(&id).await;
    assert_eq!((job.state(), job.attempts), (JobState::Succeeded, 1));
}

#[tokio::test]
async fn a_job_that_outlasts_draining_is_given_back_and_the_attempt_is_not_counted() {
    let mut world =
        World::with(Backend::Embedded, |config| config.lifecycle.drain_timeout = Duration::from_millis(300))
            .await;
    let state = world.surroundings.state.clone();
    state.add_document("d", "a.md", "text/markdown", DOCUMENT);
    state.close().await;
    let id = world.publish(ingest("d", 1)).await.unwrap().job.unwrap().id;
    eventually(SOON, || async { state.calls("get_document") == 1 }).await;
    world.stop().await;
    state.open();
    world.config.roles = vec![Role::Api];
    world.restart().await;
    let job = world.job(&id).await;
    assert_eq!((job.state(), job.attempts, job.errors.len()), (JobState::Ready, 0, 0));
    world.config.roles = vec![Role::Worker, Role::Api];
    world.restart().await;
    assert_eq!(world.reaches(&id, JobState::Succeeded).await.attempts, 1);
}

#[tokio::test]
async fn jobs_survive_a_restart() {
    let mut world = World::with(Backend::Embedded, |config| config.roles = vec![Role::Api]).await;
    let mut ids = Vec::new();
    for i in 0..20 {
        let id = format!("d{i}");
        world.surroundings.state.add_document(&id, "a.md", "text/markdown", DOCUMENT);
        ids.push(world.publish(ingest(&id, 1)).await.unwrap().job.unwrap().id);
    }
    world.config.roles = vec![Role::Api, Role::Worker];
    world.restart().await;
    for id in ids {
        assert_eq!(world.reaches(&id, JobState::Succeeded).await.attempts, 1);
    }
    assert_eq!(world.surroundings.state.calls("complete_document"), 20, "each once");
}

#[tokio::test]
async fn two_workers_do_each_job_once() {
    let world = World::with(Backend::Embedded, |config| config.roles = vec![Role::Api]).await;
    let _workers = [Worker::start(&world.config), Worker::start(&world.config)];
    let mut ids = Vec::new();
    for i in 0..40 {
        let id = format!("d{i}");
        world.surroundings.state.add_document(&id, "a.md", "text/markdown", DOCUMENT);
        ids.push(world.publish(ingest(&id, 1)).await.unwrap().job.unwrap().id);
    }
    for id in ids {
        assert_eq!(world.reaches(&id, JobState::Succeeded).await.attempts, 1);
    }
    assert_eq!(world.surroundings.state.calls("complete_document"), 40);
}
