//! The handbook in `data/questions` is ingested and asked about: for at least 80 % of the questions, the document that
//! answers must be among the first three quoted. On embedded backends, and on real ones.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::{path::Path, time::Duration};

use serde::Deserialize;
use weft::{
    ask::ask,
    ingest::{Ingestion, Progress, Selection, walk},
    up::{Config, up},
};
use weft_client::Client;
use weft_runtime::config::Sources;

/// How many of the quoted passages count.
const FIRST: usize = 3;
/// The share of questions that must find their document among them.
const REQUIRED: f64 = 0.8;
/// How long an answer may take; a fraction of a second, unless the machine is overloaded.
const LIMIT: Duration = Duration::from_secs(60);

/// Every port free.
const PORTS: &str = r#"
[gateway]
listeners = [{ address = "127.0.0.1:0" }]
admin = { address = "127.0.0.1:0" }
[cache]
address = "127.0.0.1:0"
admin = { address = "127.0.0.1:0" }
[database]
address = "127.0.0.1:0"
admin = { address = "127.0.0.1:0" }
[queue]
address = "127.0.0.1:0"
admin = { address = "127.0.0.1:0" }
[assets]
address = "127.0.0.1:0"
admin = { address = "127.0.0.1:0" }
"#;

#[derive(Deserialize)]
struct Set {
    questions: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    /// As a person asks.
    text: String,
    /// The document that answers.
    document: String,
}

/// Brings a mesh up, ingests the handbook, asks every question, and says which did not find their document.
async fn missed(backends: &str) -> (Vec<String>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let sources = Sources::from_text(&format!("{PORTS}{backends}")).unwrap();
    let mut config = Config::load(&sources, folder.path()).unwrap();
    // This test is no `weft`, so children that read documents are another program.
    config.queue.extractor.command = vec![env!("CARGO_BIN_EXE_weft-tests").to_owned(), "extract".to_owned()];
    let mesh = up(config).await.unwrap();
    mesh.wait_ready(LIMIT).await;
    let client = Client::connect(&format!("http://{}", mesh.gateway), "ada").await.unwrap();

    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/questions");
    let found = walk(&data.join("documents"), &[".".into()], Selection::TextLike).unwrap().found;
    let report = Ingestion::default().run(&client, found, &Progress::Silent).await.unwrap();
    assert!(report.is_success() && report.ready >= 20, "{report:?}");

    let set: Set = toml::from_str(&std::fs::read_to_string(data.join("questions.toml")).unwrap()).unwrap();
    assert_eq!(set.questions.len(), 30);
    let mut missed = Vec::new();
    for Question { text, document } in &set.questions {
        let answer = ask(&client, text, None, LIMIT, |_| Ok(true)).await.unwrap().unwrap();
        let quoted: Vec<_> =
            answer.message.citations.into_iter().map(|citation| citation.path).take(FIRST).collect();
        if !quoted.contains(document) {
            missed.push(format!("{text} is answered by {document}, quoted: {}", quoted.join(", ")));
        }
    }
    mesh.stop().await;
    (missed, set.questions.len())
}

#[track_caller]
fn assert_enough((missed, asked): (Vec<String>, usize)) {
    let share = (asked - missed.len()) as f64 / asked as f64;
    assert!(share >= REQUIRED, "{} of {asked} missed:\n  {}", missed.len(), missed.join("\n  "));
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_backends_find_what_answers() {
    assert_enough(missed("").await);
}

#[cfg(feature = "real-backends")]
#[tokio::test(flavor = "multi_thread")]
async fn real_backends_find_what_answers() {
    let servers = weft_testkit::Servers::start().await.unwrap();
    assert_enough(missed(&servers.config()).await);
}
