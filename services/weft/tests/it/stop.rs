//! How it ends.

use std::time::Duration;

use futures::StreamExt as _;
use weft_client::{Client, Watch};
use weft_proto::queue::v1::PublishRequest;

use crate::program::Mesh;

/// Longer than every drain timeout together: whoever takes this long hangs.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_signal_ends_it_in_order() {
    for signal in ["TERM", "INT"] {
        let mesh = Mesh::start();
        assert_eq!(mesh.signal_and_wait(signal, LIMIT), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_watches_does_not_keep_it_up() {
    let mesh = Mesh::start();
    let client = Client::connect(&mesh.gateway, "ada").await.unwrap();
    let job = PublishRequest {
        queue: "notification_queue".into(),
        r#type: "weft.queue.v1.DeliverNotification".into(),
        delay: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..Default::default()
    };
    let (job, existed) = client.jobs().publish(job).await.unwrap();
    assert!(!existed);
    let mut events = client.jobs().watch(&job.id, Watch { limit: LIMIT * 2, ..Watch::default() });
    let asked = client.jobs().get(&job.id).await.unwrap();
    assert_eq!(asked.id, job.id);
    let ended = tokio::task::spawn_blocking(move || mesh.signal_and_wait("TERM", LIMIT));
    // The watch is polled all the while; it outlives the mesh, and waits for it to come back.
    tokio::select! {
        ended = ended => assert_eq!(ended.unwrap(), 0),
        event = events.next() => panic!("a job that is not due had {event:?}"),
    }
}
