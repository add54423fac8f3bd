//! What a scrape says of answers of models.

use std::net::TcpListener;

use super::*;
use crate::program::Program;

#[tokio::test]
async fn the_first_token_and_the_rate_of_the_others_are_measured() {
    let (server, folder) = (ModelServer::start(&[]).await, tempfile::tempdir().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pools = format!(
        "[[pools]]\nname = \"one\"\nprotocol = \"http\"\nhealth = {{ kind = \"tcp\" }}\n\
         backends = [{{ address = \"{}\" }}]\nmodels = {{ names = [\"m\", \"x-*\"] }}\n\
         [[routes]]\npath_prefix = \"/v1/\"\nopenai = true\n",
        server.address
    );
    let (program, _) = Program::start(folder.path(), &listener, &pools).await;
    let address = listener.local_addr().unwrap();
    let events = async |model: &str, parts: &[&'static str]| {
        let (events, receiver) = mpsc::channel(1);
        server.answers(Answer::Stream(receiver));
        let mut stream = TcpStream::connect(address).await.unwrap();
        let body = chat(model);
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        let mut seen = String::new();
        for part in parts {
            events.send(part).await.unwrap();
            while !seen.contains(part) {
                let mut bytes = [0; 1024];
                let read = timeout(LIMIT, stream.read(&mut bytes)).await.unwrap().unwrap();
                assert_ne!(read, 0, "{seen}");
                seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        }
        drop(events);
        stream.read_to_string(&mut seen).await.unwrap();
    };
    let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
    events(
        "m",
        &[
            role,
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
            "data: b\n\n",
            "data: [DONE]\n\n",
        ],
    )
    .await;
    events("x-1", &[role]).await;
    ask(address, "/v1/embeddings", "", &chat("x-2")).await;
    server.answers(Answer::Status(500, None));
    ask(address, "/v1/embeddings", "", &chat("x-2")).await;

    let scrape =
        async || http(program.admin, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let labels = |operation: &str, model: &str| {
        format!("{{gen_ai_operation_name=\"{operation}\",gen_ai_request_model=\"{model}\",pool=\"one\"}}")
    };
    let first = "gen_ai_server_time_to_first_token_seconds_count";
    let rate = "weft_gateway_tokens_per_second";
    let expected = [
        format!("{first}{} 1", labels("chat", "m")),
        format!("{first}{} 1", labels("embeddings", "other")),
        format!("{rate}_count{} 1", labels("chat", "m")),
    ];
    eventually(LIMIT, || async {
        let scrape = scrape().await;
        expected.iter().all(|line| scrape.lines().any(|sample| sample == line))
    })
    .await;
    let scrape = scrape().await;
    let samples = |name: &str| scrape.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(
        (samples(first), samples(&format!("{rate}_count"))),
        (2, 1),
        "a role alone is no token: {scrape}"
    );
    assert!(
        scrape.contains(
            "weft_gateway_call_duration_seconds_count{pool=\"one\",route=\"/v1/\",status=\"OK\"} 3"
        ),
        "{scrape}"
    );
    program.stop().await;
}
