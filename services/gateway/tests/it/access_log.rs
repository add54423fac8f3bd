//! One line for each call, with what an operator asks for.

use std::time::Duration;

use serde_json::Value;
use weft_gateway::{HealthKind, Route};
use weft_testkit::eventually;

use crate::{backend::TestBackend, client::Client, config, started};

#[tokio::test]
async fn every_call_has_a_line_that_says_how_it_went() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let backend = TestBackend::start().await;
    let mut config = config(&[backend.address], &[], HealthKind::Tcp);
    config.access_log = Some(path.to_str().unwrap().to_owned());
    config.routes[0].idempotent = true;
    config.routes[0].idle_timeout = Duration::from_millis(300);
    config.routes.push(Route { max_in_flight: 1, ..Route::grpc("grpc.testing.Full", "echo") });
    let gateway = started(config).await;
    let client = Client::connect(gateway.address).await;
    client
        .unary("FailFirst", b"12345", &[("user-agent", "tester/1"), ("x-request-id", "r-7")])
        .await
        .unwrap();
    client.unary("Echo", b"1234567", &[]).await.unwrap();
    client.unary("Hang", b"", &[("grpc-timeout", "50m")]).await.unwrap_err();
    client.unary("HalfThenHang", b"", &[]).await.unwrap_err();
    client.unary_of("nowhere.Service/Call", b"", &[]).await.unwrap_err();
    let held = client.open_of("grpc.testing.Full/Echo", &[]).await;
    client.unary_of("grpc.testing.Full/Echo", b"", &[]).await.unwrap_err();
    drop(held);
    client.unary("AlwaysFail", b"", &[]).await.unwrap_err();
    backend.kill().await;
    let refused =
        || async { client.unary("Echo", b"", &[]).await.unwrap_err().reason == "NO_HEALTHY_BACKENDS" };
    eventually(Duration::from_secs(5), refused).await;

    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let line = |flags: &'static str| lines().into_iter().find(|line| line["flags"] == flags);
    eventually(Duration::from_secs(5), || async { line("UH").is_some() || line("UF").is_some() }).await;

    let repeated = line("-").unwrap();
    assert_eq!(repeated["path"], "/grpc.testing.TestService/FailFirst");
    assert_eq!((repeated["attempts"].as_u64(), repeated["grpc_status"].as_u64()), (Some(2), Some(0)));
    assert_eq!((repeated["pool"].as_str(), repeated["peer"].as_str()), (Some("echo"), Some("127.0.0.1")));
    assert_eq!(repeated["backend"], backend.address.to_string());
    assert_eq!(
        (repeated["user_agent"].as_str(), repeated["request_id"].as_str()),
        (Some("tester/1"), Some("r-7"))
    );
    assert!(repeated["bytes_sent"].as_u64().unwrap() > 0 && repeated["first_byte_ms"].is_number());
    let echoed = lines().into_iter().find(|line| line["path"] == "/grpc.testing.TestService/Echo").unwrap();
    assert_eq!((echoed["bytes_received"].as_u64(), echoed["bytes_sent"].as_u64()), (Some(7), Some(7)));
    let late = line("UT").unwrap();
    assert_eq!((late["grpc_status"].as_u64(), late["attempts"].as_u64()), (Some(4), Some(1)));
    assert!(late.get("first_byte_ms").is_none());
    let idle = line("SI").unwrap();
    assert_eq!((idle["grpc_status"].as_u64(), idle["bytes_sent"].as_u64()), (Some(14), Some(4)));
    let nowhere = line("NR").unwrap();
    assert_eq!((nowhere["grpc_status"].as_u64(), nowhere["pool"].as_str()), (Some(12), Some("")));
    let full = line("UO").unwrap();
    assert_eq!((full["grpc_status"].as_u64(), full["pool"].as_str()), (Some(8), Some("echo")));
    // What a backend says by itself has no flag, but that it was not asked again has.
    let given_up = line("URX").unwrap();
    assert_eq!((given_up["grpc_status"].as_u64(), given_up["attempts"].as_u64()), (Some(14), Some(3)));
    gateway.stop().await;
}
