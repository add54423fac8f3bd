//! What a scrape of the admin port says of the calls that were made.

use std::{collections::BTreeMap, net::TcpListener, time::Duration};

use weft_testkit::eventually;

use crate::{
    backend::TestBackend,
    client::{Client, http},
    program::{Program, pools},
};

/// A scrape: each sample by its name and labels, the latter in their order.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    async fn of(program: &Program) -> Self {
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let answer = http(program.admin, request).await;
        let samples = answer.lines().filter_map(|line| line.rsplit_once(' '));
        Self(samples.filter_map(|(sample, value)| Some((sample.to_owned(), value.parse().ok()?))).collect())
    }

    #[track_caller]
    fn is(&self, sample: &str, value: u32) {
        let found = self.0.get(sample).copied();
        let name = sample.split('{').next().unwrap();
        let like: Vec<_> = self.0.iter().filter(|(other, _)| other.starts_with(name)).collect();
        assert_eq!(found, Some(value.into()), "{sample}, among {like:#?}");
    }
}

#[tokio::test]
async fn calls_are_counted_under_the_names_of_grpc_and_of_envoy() {
    let (backend, folder) = (TestBackend::start().await, tempfile::tempdir().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let routes = "idempotent = true\n[[routes]]\ngrpc_service = \"weft.cache.*\"\npool = \"echo\"\n\
                  [[routes]]\ngrpc_service = \"grpc.testing.Full\"\npool = \"echo\"\nmax_in_flight = 1\n";
    let (program, _) = Program::start(folder.path(), &listener, &(pools(&backend) + routes)).await;
    let client = Client::connect(listener.local_addr().unwrap()).await;
    // One call, three attempts, each of which fails in its trailers.
    client.unary("AlwaysFail", b"12345", &[]).await.unwrap_err();
    for _ in 0..3 {
        client.unary("Echo", b"1234567", &[]).await.unwrap();
    }
    client.unary_of("weft.cache.v1.CacheService/Echo", b"", &[]).await.unwrap();
    client.unary_of("weft.cache.v1.CacheService/Get", b"", &[]).await.unwrap();
    client.unary("Hang", b"", &[("grpc-timeout", "50m")]).await.unwrap_err();
    client.unary_of("nowhere.Service/Call", b"", &[]).await.unwrap_err();
    let held = client.open_of("grpc.testing.Full/HalfThenHang", &[]).await;
    client.unary_of("grpc.testing.Full/Echo", b"", &[]).await.unwrap_err();

    // Counted when it has ended everywhere, which may be a moment after the client has its answer.
    let ended =
        "grpc_server_call_duration_seconds_count{grpc_method=\"other\",grpc_status=\"DEADLINE_EXCEEDED\"}";
    eventually(Duration::from_secs(10), || async { Scrape::of(&program).await.0.contains_key(ended) }).await;
    let scrape = Scrape::of(&program).await;
    // Who makes up methods makes up no labels.
    scrape.is("grpc_server_call_started_total{grpc_method=\"other\"}", 7);
    scrape.is("grpc_server_call_started_total{grpc_method=\"weft.cache.v1.CacheService/Get\"}", 1);
    scrape.is("grpc_server_call_duration_seconds_count{grpc_method=\"other\",grpc_status=\"OK\"}", 4);
    let other = "grpc_method=\"other\",grpc_status=\"OK\"";
    let of_pool = format!("{other},grpc_target=\"echo\"");
    scrape.is(&format!("grpc_server_call_rcvd_total_compressed_message_size_bytes_sum{{{other}}}"), 21);
    scrape.is("grpc_client_attempt_started_total{grpc_method=\"other\",grpc_target=\"echo\"}", 9);
    scrape.is(&format!("grpc_client_attempt_duration_seconds_count{{{of_pool}}}"), 4);
    scrape.is(&format!("grpc_client_attempt_sent_total_compressed_message_size_bytes_sum{{{of_pool}}}"), 21);
    let failed = "grpc_method=\"other\",grpc_status=\"UNAVAILABLE\",grpc_target=\"echo\"";
    scrape.is(&format!("grpc_client_attempt_duration_seconds_count{{{failed}}}"), 3);
    let calls = "pool=\"echo\",route=\"grpc.testing.*\",status=\"OK\"";
    scrape.is(&format!("weft_gateway_call_duration_seconds_count{{{calls}}}"), 3);

    for (name, value) in [
        ("upstream_rq_total", 10),
        ("upstream_rq_retry_total", 2),
        ("upstream_rq_retry_success_total", 0),
        ("upstream_rq_timeout_total", 1),
        ("upstream_rq_per_try_timeout_total", 0),
        ("upstream_rq_tx_reset_total", 1),
        ("upstream_rq_active", 1),
        ("upstream_rq_pending_active", 0),
        ("upstream_cx_total", 1),
        ("upstream_cx_active", 1),
        ("upstream_cx_connect_fail_total", 0),
        ("membership_total", 1),
        ("membership_healthy", 1),
        ("outlier_detection_ejections_active", 0),
    ] {
        scrape.is(&format!("weft_gateway_{name}{{pool=\"echo\"}}"), value);
    }
    let of_backend = format!("backend=\"{}\",pool=\"echo\"", backend.address);
    scrape.is(&format!("weft_gateway_backend_calls_total{{{of_backend}}}"), 10);
    scrape.is("weft_gateway_calls_unrouted_total", 1);
    scrape.is("weft_gateway_calls_shed_total{pool=\"echo\",route=\"grpc.testing.Full\"}", 1);
    let json = "POST /weft.cache.v1.CacheService/Get HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                content-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    http(listener.local_addr().unwrap(), json).await;
    Scrape::of(&program).await.is("weft_gateway_calls_translated_total{protocol=\"connect\"}", 1);
    drop(held);
    program.stop().await;
}
