//! What servers that are dead, full, busy or unwilling cost their clients.

use weft_proto::gateway::v1::Health;

use super::*;
use crate::health::health;

#[tokio::test]
async fn a_dead_server_costs_no_call_and_when_all_are_dead_clients_are_told_when_to_come_again() {
    let (one, two) = (ModelServer::start(&[]).await, ModelServer::start(&[]).await);
    let mut pool = pool("pair", &[&one, &two], &["m"]);
    pool.backends[1].tier = 0;
    // Only calls can notice.
    pool.health.interval = Duration::from_secs(3600);
    pool.models.as_mut().unwrap().discover = false;
    let gateway = gateway(vec![pool]).await;
    eventually(LIMIT, || async { health(&gateway, "pair").await == [Health::Healthy; 2] }).await;
    one.kill().await;
    // Larger than what is kept of other requests for sending them again.
    let body = format!(r#"{{"image":"{}","model":"m"}}"#, "A".repeat(300_000));
    for _ in 0..20 {
        let (head, answer) = ask(gateway.address, "/v1/chat/completions", "", &body).await;
        assert!(head.starts_with("http/1.1 200") && answer == body, "{head}");
    }
    assert_eq!(two.calls().len(), 20);
    two.kill().await;
    let answer = ask(gateway.address, "/v1/chat/completions", "", &chat("m")).await;
    let expected = (503, "server_error".to_owned(), Value::Null, "no_healthy_backends".to_owned());
    assert_eq!(error(&answer), expected);
    assert!(answer.0.contains("retry-after: 1"), "{}", answer.0);
    gateway.stop().await;
}

#[tokio::test]
async fn the_first_tier_takes_the_calls_while_it_can() {
    let (fast, slow) = (ModelServer::start(&["m"]).await, ModelServer::start(&["m"]).await);
    let mut pool = pool("models", &[&fast, &slow], &["m"]);
    pool.max_in_flight = 1;
    pool.models.as_mut().unwrap().discover = false;
    let gateway = gateway(vec![pool]).await;
    eventually(LIMIT, || async { health(&gateway, "models").await == [Health::Healthy; 2] }).await;
    let call = async || {
        let (head, _) = ask(gateway.address, "/v1/chat/completions", "", &chat("m")).await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        (fast.calls().len(), slow.calls().len())
    };
    assert_eq!((call().await, call().await), ((1, 0), (2, 0)));
    fast.answers(Answer::Hang);
    let mut busy = TcpStream::connect(gateway.address).await.unwrap();
    let body = chat("m");
    let request =
        format!("POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    busy.write_all(request.as_bytes()).await.unwrap();
    eventually(LIMIT, || async { fast.calls().len() == 3 }).await;
    assert_eq!(call().await, (3, 1), "it has as many as it may");
    drop(busy);
    fast.kill().await;
    assert_eq!(call().await, (3, 2));
    gateway.stop().await;
}

#[tokio::test]
async fn what_servers_say_of_their_load_counts_like_calls_from_here() {
    let (one, two) = (ModelServer::start(&[]).await, ModelServer::start(&[]).await);
    let mut pool = pool("pair", &[&one, &two], &["m"]);
    pool.backends[1].tier = 0;
    let models = pool.models.as_mut().unwrap();
    (models.load_path, models.load_interval) = (Some("/metrics".into()), Duration::from_millis(20));
    let gateway = gateway(vec![pool]).await;
    for (busy, idle) in [(&one, &two), (&two, &one)] {
        busy.is_loaded(1, 3);
        idle.is_loaded(0, 0);
        // Whoever is asked says it again within the time that its answer counts.
        let rounds = async || {
            let before = (busy.calls().len(), idle.calls().len());
            for _ in 0..10 {
                ask(gateway.address, "/v1/chat/completions", "", &chat("m")).await;
            }
            (busy.calls().len() - before.0, idle.calls().len() - before.1)
        };
        eventually(LIMIT, || async { rounds().await == (0, 10) }).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_pool_that_fits_as_well_stands_in_and_one_that_fits_less_does_not() {
    let [one, two, rest] =
        [ModelServer::start(&[]).await, ModelServer::start(&[]).await, ModelServer::start(&[]).await];
    let pools =
        vec![pool("rest", &[&rest], &["*"]), pool("one", &[&one], &["m"]), pool("two", &[&two], &["m"])];
    let gateway = gateway(pools).await;
    let status = async || {
        let (head, _) = ask(gateway.address, "/v1/chat/completions", "", &chat("m")).await;
        head.split(' ').nth(1).unwrap().to_owned()
    };
    for pool in ["one", "two"] {
        eventually(LIMIT, || async { health(&gateway, pool).await == [Health::Healthy] }).await;
    }
    assert_eq!((status().await.as_str(), one.calls().len()), ("200", 1));
    one.kill().await;
    eventually(LIMIT, || async { health(&gateway, "one").await == [Health::Unhealthy] }).await;
    assert_eq!((status().await.as_str(), two.calls().len()), ("200", 1));
    two.kill().await;
    eventually(LIMIT, || async { health(&gateway, "two").await == [Health::Unhealthy] }).await;
    assert_eq!((status().await.as_str(), rest.calls().len()), ("503", 0));
    gateway.stop().await;
}

#[tokio::test]
async fn what_a_server_says_of_its_load_is_passed_on_and_its_call_is_not_repeated() {
    let (one, two) = (ModelServer::start(&[]).await, ModelServer::start(&[]).await);
    let gateway = gateway(vec![pool("models", &[&one, &two], &["m"])]).await;
    // Until the first tier has been checked, the second may stand in for it.
    eventually(LIMIT, || async { health(&gateway, "models").await == [Health::Healthy; 2] }).await;
    for (status, after) in [(429, Some("17")), (503, Some("0")), (503, None), (500, None)] {
        one.answers(Answer::Status(status, after));
        let calls = one.calls().len();
        let (head, body) = ask(gateway.address, "/v1/chat/completions", "", &chat("m")).await;
        assert!(
            head.starts_with(&format!("http/1.1 {status}")) && body == "{\"own\": true}",
            "{head} {body}"
        );
        let told = head.lines().find_map(|line| line.strip_prefix("retry-after: "));
        assert_eq!((told, one.calls().len(), two.calls().len()), (after, calls + 1, 0));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn where_the_route_allows_it_a_refused_call_goes_to_the_next_tier() {
    let (one, two) = (ModelServer::start(&[]).await, ModelServer::start(&[]).await);
    let mut config = configured(vec![pool("models", &[&one, &two], &["m"])]);
    config.routes[0].idempotent = true;
    config.pools[0].retry.codes.insert("RESOURCE_EXHAUSTED".into());
    let gateway = started(config).await;
    eventually(LIMIT, || async { health(&gateway, "models").await == [Health::Healthy; 2] }).await;
    let body = format!(r#"{{"image":"{}","model":"m"}}"#, "A".repeat(300_000));
    for (status, after) in [(503, None), (429, None), (429, Some("0"))] {
        one.answers(Answer::Status(status, after));
        let calls = (one.calls().len(), two.calls().len());
        let (head, answer) = ask(gateway.address, "/v1/chat/completions", "", &body).await;
        assert!(head.starts_with("http/1.1 200") && answer == body, "{head}");
        assert_eq!((one.calls().len(), two.calls().len()), (calls.0 + 1, calls.1 + 1));
    }
    // Longer than a call is held for.
    one.answers(Answer::Status(503, Some("30")));
    let (head, _) = ask(gateway.address, "/v1/chat/completions", "", &body).await;
    assert!(head.starts_with("http/1.1 503") && head.contains("retry-after: 30"), "{head}");
    gateway.stop().await;
}
