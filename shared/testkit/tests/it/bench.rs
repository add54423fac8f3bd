//! The benchmark's backend under the benchmark's load.
use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::task::TaskTracker;
use weft_testkit::bench::{Backend, BackendOptions, Load, Rate, Report, Streams, Workload, hold, run};

async fn backend(slots: usize) -> SocketAddr {
    let options = BackendOptions { port: 0, name: "b0".into(), slots };
    let backend = Backend::bind(&options).await.unwrap();
    let address = backend.address();
    TaskTracker::new().spawn(backend.serve());
    address
}

/// Half a second of it, about 250 calls.
async fn load(target: SocketAddr, timeout: Duration) -> Report {
    let load = Load {
        target,
        rate: Rate::Open(500.0),
        seconds: 0.5,
        warm_up: 0.0,
        workload: Workload::Constant,
        bytes: 100,
        connections: 2,
        seed: 1,
        timeout,
    };
    let report = run(&load).await.unwrap();
    assert!((200..300).contains(&report.calls), "{report:?}");
    report
}

async fn control(backend: SocketAddr, mode: &str) -> String {
    let mut stream = TcpStream::connect(backend).await.unwrap();
    let request =
        format!("GET /control HTTP/1.1\r\nhost: {backend}\r\nx-mode: {mode}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

async fn account(backend: SocketAddr) -> serde_json::Value {
    serde_json::from_str(&control(backend, "report").await).unwrap()
}

#[tokio::test]
async fn every_call_is_served_for_as_long_as_it_asks_and_counted_once() {
    let backend = backend(0).await;
    let report = load(backend, Duration::from_secs(10)).await;
    assert_eq!((report.ok, report.failed.len()), (report.calls, 0), "{report:?}");
    assert_eq!(report.backends["b0"], report.calls);
    assert!(report.latency.p50 >= 200.0 && report.latency.p999 < 10_000.0, "{report:?}");
    assert!((report.latency.p50 - report.added.p50 - 200.0).abs() < 0.1, "{report:?}");
    let account = account(backend).await;
    assert_eq!((&account["calls"], &account["in_flight"]), (&report.calls.into(), &0.into()));
    // Little's law: what was in flight over time is what the calls took together.
    let area = account["mean_in_flight"].as_f64().unwrap() * account["seconds"].as_f64().unwrap();
    let least = report.calls as f64 * 0.2;
    assert!(area >= least && area < 5.0 * least, "{area} call seconds, not {least}");
    assert!(account["samples"].as_array().unwrap().len() > 10, "{account}");
}

#[tokio::test]
async fn calls_beyond_the_slots_wait_and_are_late() {
    // 20 slots serve 100 calls a second, a fifth of those that come.
    let report = load(backend(20).await, Duration::from_secs(30)).await;
    assert_eq!(report.ok, report.calls, "{report:?}");
    assert!(report.added.p99 > 1000.0, "{report:?}");
}

#[tokio::test]
async fn failures_are_told_apart() {
    let backend = backend(0).await;
    control(backend, "fail_fast").await;
    let report = load(backend, Duration::from_secs(10)).await;
    assert_eq!((report.ok, report.failed["grpc_14"]), (0, report.calls), "{report:?}");
    control(backend, "hang").await;
    let report = load(backend, Duration::from_millis(100)).await;
    assert_eq!((report.ok, report.failed["timeout"]), (0, report.calls), "{report:?}");
    control(backend, "slow=2").await;
    let report = load(backend, Duration::from_secs(10)).await;
    assert!(report.added.p50 >= 200.0, "{report:?}");
    assert_eq!(account(backend).await["in_flight"], 0);
}

#[tokio::test]
async fn a_closed_load_has_so_many_calls_in_flight() {
    let backend = backend(0).await;
    let load = Load {
        target: backend,
        rate: Rate::Closed(5),
        seconds: 1.0,
        warm_up: 0.0,
        workload: Workload::Constant,
        bytes: 0,
        connections: 2,
        seed: 1,
        timeout: Duration::from_secs(10),
    };
    let report = run(&load).await.unwrap();
    // Five every 200 ms, or fewer on a busy machine.
    assert!((5..=25).contains(&report.calls) && report.ok == report.calls, "{report:?}");
    let instant = Load { workload: Workload::Instant, ..load };
    let report = run(&instant).await.unwrap();
    assert!(report.calls > 100 && report.ok == report.calls, "{report:?}");
}

/// 20 streams with 10 messages each.
fn streams(target: SocketAddr) -> Streams {
    Streams {
        target,
        streams: 20,
        connections: 2,
        messages: 10,
        interval: Duration::from_millis(20),
        bytes: 100,
        ramp: Duration::from_millis(50),
        seed: 1,
        patience: Duration::from_secs(10),
    }
}

#[tokio::test]
async fn every_message_of_every_stream_comes() {
    let (backend, mut open) = (backend(0).await, 0);
    let report = hold(&streams(backend), |count| open = count).await.unwrap();
    assert_eq!((report.streams, report.ok, report.due, report.received), (20, 20, 200, 200), "{report:?}");
    assert_eq!((open, report.backends["b0"]), (20, 20), "{report:?}");
    assert!(report.late.p50 < 10_000.0, "{report:?}");
    let account = account(backend).await;
    assert_eq!((&account["calls"], &account["in_flight"]), (&20.into(), &0.into()));
    // A stream is in flight until its end: 180 ms each.
    let area = account["mean_in_flight"].as_f64().unwrap() * account["seconds"].as_f64().unwrap();
    assert!(area >= 20.0 * 0.18, "{area} stream seconds");
}

#[tokio::test]
async fn streams_that_do_not_come_to_their_end_are_told_apart() {
    let backend = backend(0).await;
    let hour = Duration::from_secs(3600);
    // Idle after their first message; given up after an hour, so this is ended before.
    let idle = Streams { messages: 2, interval: hour, ..streams(backend) };
    let (sender, mut opened) = tokio::sync::mpsc::unbounded_channel();
    let holds = hold(&idle, |count| sender.send(count).unwrap());
    tokio::select! {
        report = holds => panic!("{report:?}"),
        open = opened.recv() => assert_eq!(open, Some(20)),
    }
    control(backend, "fail_fast").await;
    let report = hold(&streams(backend), |count| assert_eq!(count, 0)).await.unwrap();
    assert_eq!((report.ok, report.received, report.failed["grpc_14"]), (0, 0, 20), "{report:?}");
    control(backend, "hang").await;
    let impatient = Streams { patience: Duration::ZERO, ..streams(backend) };
    let report = hold(&impatient, |count| assert_eq!(count, 0)).await.unwrap();
    assert_eq!((report.due, report.received, report.failed["timeout"]), (200, 0, 20), "{report:?}");
}
