//! Which models there are, while servers come, go and hang.

use super::*;
use crate::reload::Reloading;

/// The names in the list of all models.
async fn names(gateway: &Running) -> Vec<String> {
    let (head, body) = get(gateway.address, "/v1/models").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: application/json"), "{head}");
    let list: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(list["object"], "list");
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

async fn has(gateway: &Running, expected: &[&str]) {
    eventually(LIMIT, || async { names(gateway).await == expected }).await;
}

#[tokio::test]
async fn models_are_merged_while_one_host_hangs_and_another_is_dead() {
    let (one, two) =
        (ModelServer::start(&["a", "shared"]).await, ModelServer::start(&["shared", "text-1", "b"]).await);
    let (hanging, dead) = (ModelServer::start(&[]).await, ModelServer::start(&[]).await);
    hanging.lists_nothing();
    dead.kill().await;
    let gateway = gateway(vec![
        pool("hanging", &[&hanging], &[]),
        pool("one", &[&one], &[]),
        pool("two", &[&two], &["text-*", "shared", "fixed"]),
        pool("dead", &[&dead], &[]),
    ])
    .await;
    has(&gateway, &["a", "shared", "text-1", "fixed"]).await;
    // However often it is asked: what hangs is not waited for.
    for _ in 0..100 {
        timeout(Duration::from_secs(1), names(&gateway)).await.unwrap();
    }
    assert!(hanging.listed().len() <= 2, "one at a time: {}", hanging.listed().len());
    let of =
        |server: &ModelServer, name: &str| format!(r#"{{"id":"{name}", "port": {}}}"#, server.address.port());
    assert_eq!(get(gateway.address, "/v1/models/shared").await.1, of(&one, "shared"), "as the first has it");
    assert_eq!(get(gateway.address, "/v1/models/text%2D1").await.1, of(&two, "text-1"));
    let fixed = r#"{"created":0,"id":"fixed","object":"model","owned_by":"two"}"#;
    assert_eq!(get(gateway.address, "/v1/models/fixed").await.1, fixed);
    // The two that have not said may have it.
    let answer = get(gateway.address, "/v1/models/b").await;
    assert_eq!(error(&answer), (503, "server_error".into(), "model".into(), "models_unknown".into()));
    assert!(answer.0.contains("retry-after: 1"), "{}", answer.0);
    let answer = ask(gateway.address, "/v1/chat/completions", "", &chat("b")).await;
    assert_eq!(error(&answer).0, 503);
    gateway.stop().await;
}

#[tokio::test]
async fn a_server_that_goes_keeps_its_models_for_a_time_and_no_longer() {
    let (one, two) = (ModelServer::start(&["a"]).await, ModelServer::start(&["b"]).await);
    let mut pools = vec![pool("one", &[&one], &[]), pool("two", &[&two], &[])];
    pools[1].models.as_mut().unwrap().keep = Duration::from_secs(3);
    let gateway = gateway(pools).await;
    has(&gateway, &["a", "b"]).await;
    one.kill().await;
    two.kill().await;
    assert_eq!(names(&gateway).await, ["a", "b"]);
    has(&gateway, &["a"]).await;
    let answer = ask(gateway.address, "/v1/chat/completions", "", &chat("a")).await;
    assert_eq!(error(&answer).3, "no_healthy_backends", "it is known who would have it");
    gateway.stop().await;
}

#[tokio::test]
async fn a_new_model_is_found_by_the_next_list_or_when_it_is_asked_for() {
    let server = ModelServer::start(&["a", "llama3.1:latest"]).await;
    let mut pool = pool("one", &[&server], &[]);
    pool.models.as_mut().unwrap().refresh = Duration::from_secs(3600);
    let gateway = gateway(vec![pool]).await;
    // At once: the first list is waited for.
    assert_eq!(names(&gateway).await, ["a", "llama3.1:latest"]);
    let status = async |model: &str| {
        let (head, _) = ask(gateway.address, "/v1/chat/completions", "", &chat(model)).await;
        head.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status("llama3.1").await, "200", "as its server takes it");
    assert_eq!(status("a:latest").await, "404");
    server.lists(&["b"]);
    eventually(LIMIT, || async { status("b").await == "200" }).await;
    assert_eq!(names(&gateway).await, ["b"]);
    assert!(server.listed().len() <= 4, "{}", server.listed().len());
    gateway.stop().await;
}

#[tokio::test]
async fn a_reload_changes_who_serves_what_and_forgets_no_list() {
    let (one, two) = (ModelServer::start(&["a"]).await, ModelServer::start(&["b"]).await);
    let pool = |name: &str, server: &ModelServer, models: &str| {
        format!(
            "[[pools]]\nname = \"{name}\"\nprotocol = \"http\"\nhealth = {{ kind = \"tcp\" }}\n\
             backends = [{{ address = \"{}\" }}]\nmodels = {{ {models} }}\n",
            server.address
        )
    };
    let route = "[[routes]]\npath_prefix = \"/v1/\"\nopenai = true\n";
    let mesh = Reloading::start("1h", &(pool("one", &one, "") + route)).await;
    assert_eq!(names(&mesh.gateway).await, ["a"]);
    one.lists_nothing();
    mesh.applied(&(pool("one", &one, "refresh = \"50ms\"") + &pool("two", &two, "") + route)).await;
    assert_eq!(names(&mesh.gateway).await, ["a", "b"]);
    mesh.applied(&(pool("two", &two, "names = [\"c\"]") + route)).await;
    assert_eq!(names(&mesh.gateway).await, ["c"]);
    let answer = ask(mesh.gateway.address, "/v1/chat/completions", "", &chat("a")).await;
    assert_eq!(error(&answer).3, "model_not_found");
    mesh.gateway.stop().await;
}

#[tokio::test]
async fn a_host_that_hangs_does_not_stand_before_its_pools_others() {
    let (hanging, other) = (ModelServer::start(&["m"]).await, ModelServer::start(&["m"]).await);
    hanging.lists_nothing();
    let mut pool = pool("pair", &[&hanging, &other], &[]);
    pool.models.as_mut().unwrap().timeout = Duration::from_millis(100);
    let gateway = gateway(vec![pool]).await;
    has(&gateway, &["m"]).await;
    let asked = hanging.listed().len();
    eventually(LIMIT, || async { other.listed().len() > 3 }).await;
    assert_eq!(hanging.listed().len(), asked, "whoever answers is asked again");
    gateway.stop().await;
}
