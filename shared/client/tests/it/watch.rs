//! A job's events over streams that break.

mod queue;

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use weft_client::{Backoff, Client, Error, Event, JobEvent, Watch};

use queue::{End, Queue, Reply, ended, output};

/// Quick enough for a test.
fn watch() -> Watch {
    let backoff = Backoff { base: Duration::from_millis(1), max: Duration::from_millis(5) };
    Watch { limit: Duration::from_secs(30), backoff, ..Watch::default() }
}

async fn collect(queue: &Queue, watch: Watch) -> (Vec<u64>, Option<Error>) {
    let client = Client::connect(&queue.server.url(), "ada").await.unwrap();
    let mut events = client.jobs().watch("job", watch);
    let mut sequences = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(JobEvent { sequence, .. }) => sequences.push(sequence),
            Err(error) => return (sequences, Some(error)),
        }
    }
    (sequences, None)
}

#[tokio::test]
async fn a_whole_stream_is_read_to_its_end_and_no_further() {
    let queue = Queue::start([Reply::events([output(1), output(2), ended(3), output(4)], End::Hang)]);
    let (sequences, error) = collect(&queue, watch()).await;
    assert_eq!((sequences, error.is_none()), (vec![1, 2, 3], true));
    assert_eq!(queue.asked(), [("ada".to_owned(), 0)]);
}

#[tokio::test]
async fn a_broken_stream_is_resumed_after_the_last_event() {
    let queue = Queue::start([
        Reply::events([output(1), output(2)], End::Fail(tonic::Status::unavailable("draining"))),
        Reply::events([], End::Close),
        Reply::events([output(2), output(3)], End::Fail(tonic::Status::unavailable("draining"))),
        Reply::Refuse(tonic::Status::resource_exhausted("busy")),
        Reply::events([output(3), output(4), ended(5)], End::Close),
    ]);
    let (sequences, error) = collect(&queue, watch()).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
    let asked: Vec<u64> = queue.asked().into_iter().map(|(_, after)| after).collect();
    assert_eq!(asked.first(), Some(&0));
    assert!(asked[1..].iter().all(|after| *after >= 2) && asked.is_sorted(), "{asked:?}");
}

#[tokio::test]
async fn whatever_breaks_no_event_is_lost_or_yielded_twice() {
    const LAST: u64 = 40;
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let queue = Queue::start([]);
        // Every stream begins somewhere at or before what is asked for, and ends in its own way.
        queue.answer_with(move |after| {
            let first = after + 1 - random.u64(0..=after.min(3));
            let last = (after + random.u64(0..9)).min(LAST);
            let events = (first..=last).map(|n| if n == LAST { ended(n) } else { output(n) });
            let end = match random.u8(0..3) {
                0 => End::Close,
                1 => End::Fail(tonic::Status::unavailable("draining")),
                _ => End::Break,
            };
            Reply::events(events, if last == LAST { End::Close } else { end })
        });
        let (sequences, error) = collect(&queue, watch()).await;
        assert!(error.is_none(), "seed {seed}: {error:?}");
        assert_eq!(sequences, (1..=LAST).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[tokio::test]
async fn a_dead_server_that_comes_back_is_found_again() {
    let queue = Queue::start([Reply::events([output(1)], End::Hang)]);
    let client = Client::connect(&queue.server.url(), "ada").await.unwrap();
    let mut events = client.jobs().watch("job", watch());
    assert_eq!(events.try_next().await.unwrap().unwrap().sequence, 1);
    let address = queue.server.address;
    queue.server.stop().await;
    let queue = Queue::start_at(address, [Reply::events([output(2), ended(3)], End::Close)]);
    let rest: Vec<u64> = events.map_ok(|event| event.sequence).try_collect().await.unwrap();
    assert_eq!(rest, [2, 3]);
    assert_eq!(queue.asked(), [("ada".to_owned(), 1)]);
}

#[tokio::test]
async fn a_job_may_be_unknown_at_first() {
    let unknown = || Reply::Refuse(tonic::Status::not_found("no such job"));
    let queue = Queue::start([unknown(), unknown(), Reply::events([ended(1)], End::Close)]);
    let (sequences, error) = collect(&queue, watch()).await;
    assert_eq!((sequences, error.is_none()), (vec![1], true));
}

#[tokio::test]
async fn a_job_that_stays_unknown_or_is_gone_is_not_found() {
    let unknown = || Reply::Refuse(tonic::Status::not_found("no such job"));
    let queue = Queue::start([]);
    queue.answer_with(move |_| unknown());
    let (sequences, error) = collect(&queue, Watch { grace: Duration::ZERO, ..watch() }).await;
    assert_eq!((sequences, error.unwrap().to_string()), (vec![], "no such job".to_owned()));

    let queue = Queue::start([Reply::events([output(1)], End::Close), unknown()]);
    let (sequences, error) = collect(&queue, watch()).await;
    assert_eq!((sequences, error.unwrap().to_string()), (vec![1], "no such job".to_owned()));
}

#[tokio::test]
async fn a_definite_refusal_is_not_repeated() {
    let queue = Queue::start([Reply::Refuse(tonic::Status::invalid_argument("id"))]);
    let (_, error) = collect(&queue, watch()).await;
    assert_eq!(error.unwrap().to_string(), "id");
    assert_eq!(queue.asked().len(), 1);
}

#[tokio::test]
async fn a_defect_is_tried_a_few_times() {
    let queue = Queue::start([]);
    queue.answer_with(|_| Reply::Refuse(tonic::Status::data_loss("disk")));
    let (_, error) = collect(&queue, Watch { defects: 3, ..watch() }).await;
    assert_eq!(error.unwrap().to_string(), "disk");
    assert_eq!(queue.asked().len(), 4);
}

#[tokio::test]
async fn a_job_that_does_not_end_is_given_up_with_the_cause() {
    let limit = Duration::from_millis(60);
    let queue = Queue::start([Reply::events([output(1)], End::Hang)]);
    let (sequences, error) = collect(&queue, Watch { limit, ..watch() }).await;
    assert!(matches!(error, Some(Error::WatchDeadline { last: None, .. })), "{error:?}");
    assert!(sequences.iter().all(|sequence| *sequence == 1), "{sequences:?}");

    let queue = Queue::start([]);
    queue.answer_with(|_| Reply::Refuse(tonic::Status::unavailable("draining")));
    // Enough for a refusal to come on a machine that is busy.
    let limit = Duration::from_secs(2);
    let (_, error) = collect(&queue, Watch { limit, ..watch() }).await;
    let Some(Error::WatchDeadline { job, last: Some(last) }) = error else { panic!("{error:?}") };
    assert_eq!((job.as_str(), last.to_string().as_str()), ("job", "draining"));
}

#[tokio::test]
async fn a_watch_goes_on_where_it_is_told_to() {
    let queue = Queue::start([Reply::events([output(7), ended(8)], End::Close)]);
    let client = Client::connect(&queue.server.url(), "ada").await.unwrap();
    let events: Vec<_> =
        client.jobs().watch("job", Watch { after: 6, ..watch() }).try_collect().await.unwrap();
    assert!(matches!(&events[0].event, Event::Output(output) if output.text == "7"));
    assert_eq!(queue.asked(), [("ada".to_owned(), 6)]);
}
