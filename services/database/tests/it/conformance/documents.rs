//! Sentences 16 to 20: documents, their chunks, and search.

use futures::future::join_all;
use weft_database::{
    entities::{Chunk, DocumentState},
    error::Error,
    repository::{Begun, Ranked, outbox::Effect},
    search::{Question, search},
};

use super::on_every_engine;
use crate::fixture::{Fixture, axis, chunks};

on_every_engine! {
    c16_only_other_bytes_make_a_version,
    c16_a_path_put_at_once_by_many_is_one_document,
    c17_completing_replaces_all_chunks_at_once,
    c17_large_documents_come_in_parts,
    c18_results_for_an_older_version_are_refused,
    c19_embeddings_have_one_dimension,
    c20_words_find_passages_rare_ones_first,
    c20_the_nearest_are_exact,
    c20_both_ways_are_fused,
    c20_any_text_is_a_question,
}

fn published(effects: &[weft_database::repository::outbox::Owed]) -> Vec<(String, String)> {
    let jobs = effects.iter().filter_map(|owed| match &owed.effect {
        Effect::Publish { queue, job_id, .. } => Some((queue.clone(), job_id.clone())),
        Effect::Invalidate { .. } => None,
    });
    jobs.collect()
}

async fn texts(fixture: &Fixture, owner: &str, ranked: &[Ranked]) -> Vec<String> {
    let hits = fixture.repository.passages(owner, ranked).await.unwrap();
    hits.into_iter().map(|hit| hit.text).collect()
}

async fn find(fixture: &Fixture, text: &str) -> Vec<String> {
    let question = Question { text: text.to_owned(), embedding: None, limit: 10 };
    let hits = search(&fixture.repository, "ada", &question).await.unwrap();
    hits.into_iter().map(|hit| hit.text).collect()
}

async fn c16_only_other_bytes_make_a_version(fixture: &Fixture) {
    let first = fixture.put("ada", "a.md", "one").await;
    let document = first.value.document.clone();
    assert!(first.value.changed);
    assert_eq!((document.version, document.state), (1, DocumentState::Pending));
    assert_eq!(published(&first.owed), [("document_queue".to_owned(), document.job_id.clone())]);

    let same = fixture.put("ada", "a.md", "one").await;
    assert_eq!((same.value.changed, &same.value.document), (false, &document));
    assert!(same.owed.is_empty());

    let other = fixture.put("ada", "a.md", "two").await;
    assert_eq!((other.value.changed, other.value.document.version), (true, 2));
    assert_eq!(other.value.document.id, document.id);
    assert_ne!(other.value.document.job_id, document.job_id);

    let failed =
        fixture.repository.fail_document("ada", document.id.clone(), 2, "broken".into()).await.unwrap();
    assert_eq!((failed.value.state, failed.value.reason.as_str()), (DocumentState::Failed, "broken"));
    assert_eq!(published(&failed.owed)[0].0, "notification_queue");
    let again =
        fixture.repository.fail_document("ada", document.id.clone(), 2, "still".into()).await.unwrap();
    assert!(again.owed.is_empty() && again.value.reason == "broken");

    let retried = fixture.put("ada", "a.md", "two").await;
    assert!(retried.value.changed);
    assert_eq!((retried.value.document.version, retried.value.document.state), (2, DocumentState::Pending));
    assert_ne!(retried.value.document.job_id, other.value.document.job_id);
    assert_eq!(retried.value.document.reason, "");

    let twin = fixture.put("ada", "b.md", "two").await.value.document;
    assert_ne!(twin.id, document.id);
}

async fn c16_a_path_put_at_once_by_many_is_one_document(fixture: &Fixture) {
    let puts = join_all((0..10).map(|_| fixture.put("ada", "a.md", "one"))).await;
    let changed = puts.iter().filter(|put| put.value.changed).count();
    assert_eq!(changed, 1);
    assert!(puts.iter().all(|put| put.value.document.id == puts[0].value.document.id));
}

async fn c17_completing_replaces_all_chunks_at_once(fixture: &Fixture) {
    let id = fixture.ready("ada", "a.md", chunks(&["apple one", "apple two"])).await;
    assert_eq!(find(fixture, "apple").await.len(), 2);

    let renewed = fixture.put("ada", "a.md", "other bytes").await.value.document;
    assert_eq!(find(fixture, "apple").await.len(), 2, "what was searchable stays so");
    let upload = fixture.upload("ada", &id, renewed.version).await;
    fixture.repository.stage_chunks(&upload, chunks(&["pear"])).await.unwrap();
    assert!(find(fixture, "pear").await.is_empty(), "what is staged is not found");

    let mut rest = chunks(&["", "cherry"]);
    rest.remove(0);
    let ready = fixture.repository.complete_document(&upload, renewed.version, 2, rest).await.unwrap();
    assert_eq!((ready.value.state, ready.value.chunk_count), (DocumentState::Ready, 2));
    assert_eq!(published(&ready.owed)[0].0, "notification_queue");
    assert!(find(fixture, "apple").await.is_empty());
    assert_eq!((find(fixture, "pear").await.len(), find(fixture, "cherry").await.len()), (1, 1));
    assert_eq!(fixture.repository.nearest_chunks("ada", &axis(0), 10).await.unwrap().len(), 2);

    // A second worker with the same version changes nothing.
    let again = fixture.repository.begin_upload("ada", &id, renewed.version).await.unwrap();
    assert!(matches!(again, Begun::Ready(_)));
    let again = fixture.repository.complete_document(&upload, renewed.version, 0, Vec::new()).await.unwrap();
    assert!(again.owed.is_empty() && again.value.chunk_count == 2);

    // A failure reported late leaves it searchable.
    let late = fixture.repository.fail_document("ada", id, renewed.version, "late".into()).await.unwrap();
    assert_eq!(late.value.state, DocumentState::Ready);
}

async fn c17_large_documents_come_in_parts(fixture: &Fixture) {
    let document = fixture.put("ada", "big.txt", "big").await.value.document;
    let upload = fixture.upload("ada", &document.id, 1).await;
    let abandoned = fixture.upload("ada", &document.id, 1).await;
    let part = |from: u32| -> Vec<Chunk> {
        let of = |n| Chunk {
            ordinal: n,
            heading: format!("Part {n}"),
            text: format!("needle{n} in the hay"),
            embedding: axis(n as usize),
        };
        (from..from + 100).map(of).collect()
    };
    fixture.repository.stage_chunks(&abandoned, part(0)).await.unwrap();
    for from in [0, 100, 200] {
        fixture.repository.stage_chunks(&upload, part(from)).await.unwrap();
    }
    // One part is missing: nothing is completed.
    let incomplete = fixture.repository.complete_document(&upload, 1, 500, part(300)).await;
    assert!(incomplete.is_err());
    let ready = fixture.repository.complete_document(&upload, 1, 400, part(300)).await.unwrap().value;
    assert_eq!(ready.chunk_count, 400);
    assert_eq!(find(fixture, "needle399").await, ["needle399 in the hay"]);
    assert_eq!(find(fixture, "needle7").await.len(), 1, "the abandoned upload is gone");
    assert_eq!(fixture.repository.nearest_chunks("ada", &axis(3), 1000).await.unwrap().len(), 400);
    let discarded = fixture.repository.discard_upload(&abandoned).await;
    assert!(discarded.is_ok());
}

async fn c18_results_for_an_older_version_are_refused(fixture: &Fixture) {
    let document = fixture.put("ada", "a.md", "one").await.value.document;
    let upload = fixture.upload("ada", &document.id, 1).await;
    fixture.put("ada", "a.md", "two").await;
    let superseded = |result: Result<(), Error>| {
        assert!(matches!(result, Err(Error::Superseded { version: 1, current: 2, .. })), "{result:?}");
    };
    superseded(fixture.repository.complete_document(&upload, 1, 1, chunks(&["old"])).await.map(drop));
    superseded(fixture.repository.fail_document("ada", document.id.clone(), 1, "old".into()).await.map(drop));
    superseded(fixture.repository.begin_upload("ada", &document.id, 1).await.map(drop));
    let future = fixture.repository.begin_upload("ada", &document.id, 3).await;
    assert!(matches!(future, Err(Error::Invalid(_))));
    assert!(find(fixture, "old").await.is_empty());
    let stored = fixture.repository.document(&document.id).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.state), (2, DocumentState::Pending));
}

async fn c19_embeddings_have_one_dimension(fixture: &Fixture) {
    assert!(fixture.repository.nearest_chunks("ada", &[1.0, 0.0], 5).await.unwrap().is_empty());
    let id = fixture.ready("ada", "a.md", chunks(&["eight dimensions"])).await;
    let names_field = |error: &Error, field: &str| assert!(error.to_string().starts_with(field), "{error}");
    let wrong = fixture.repository.nearest_chunks("ada", &[1.0, 0.0], 5).await.unwrap_err();
    names_field(&wrong, "embedding: ");

    let other = fixture.put("ada", "b.md", "x").await.value.document;
    let upload = fixture.upload("ada", &other.id, 1).await;
    let short = |ordinal| Chunk { ordinal, embedding: vec![1.0, 0.0], ..chunks(&["short"])[0].clone() };
    let wrong = fixture.repository.complete_document(&upload, 1, 1, vec![short(0)]).await.unwrap_err();
    names_field(&wrong, "chunks[0].embedding: ");
    let mixed = vec![chunks(&["fine"])[0].clone(), short(1)];
    let wrong = fixture.repository.complete_document(&upload, 1, 2, mixed).await.unwrap_err();
    names_field(&wrong, "chunks[1].embedding: ");
    assert_eq!(fixture.repository.document(&other.id).await.unwrap().unwrap().state, DocumentState::Pending);

    // When no chunk is left, another embedder may begin.
    fixture.repository.delete_document("ada", id).await.unwrap();
    fixture.repository.complete_document(&upload, 1, 1, vec![short(0)]).await.unwrap();
    assert_eq!(fixture.repository.nearest_chunks("ada", &[1.0, 0.0], 5).await.unwrap().len(), 1);
}

async fn c20_words_find_passages_rare_ones_first(fixture: &Fixture) {
    fixture
        .ready(
            "ada",
            "guide/brewing.md",
            chunks(&[
                "Boil the water and let it cool for a minute before pouring.",
                "The water should be filtered; hard water spoils the taste of the leaves.",
                "Steep oolong in the water for three minutes at ninety degrees.",
                "Pour the water slowly. The water must not boil when it meets the leaves.",
            ]),
        )
        .await;
    fixture.ready("bob", "b.md", chunks(&["oolong oolong oolong"])).await;
    let first = async |question: &str| find(fixture, question).await.first().cloned().unwrap_or_default();
    assert!(first("How long should I steep oolong in water?").await.starts_with("Steep oolong"));
    assert!(
        first("is filtering the water a good idea?").await.starts_with("The water should be filtered"),
        "stems match"
    );
    assert_eq!(find(fixture, "brewing").await.len(), 4, "the path is searchable");
    assert!(find(fixture, "espresso").await.is_empty());

    fixture.ready("ada", "src/main.rs", chunks(&["fn main() { tokio::spawn(spawn_blocking) }"])).await;
    for question in ["main.rs", "spawn_blocking", "tokio::spawn", "src/main"] {
        assert!(first(question).await.starts_with("fn main"), "{question}");
    }
}

async fn c20_the_nearest_are_exact(fixture: &Fixture) {
    let mut random = fastrand::Rng::with_seed(7);
    let mut unit = move || {
        let raw: Vec<f32> = (0..24).map(|_| random.f32() - 0.5).collect();
        let length = raw.iter().map(|x| x * x).sum::<f32>().sqrt();
        raw.into_iter().map(|x| x / length).collect::<Vec<_>>()
    };
    let mut all = Vec::new();
    for document in 0..7_u32 {
        let of = |ordinal| {
            let text = format!("{document}/{ordinal}");
            Chunk { ordinal, heading: String::new(), text, embedding: unit() }
        };
        let chunks: Vec<_> = (0..40 * (document % 3 + 1)).map(of).collect();
        all.extend(chunks.iter().map(|chunk| (chunk.text.clone(), chunk.embedding.clone())));
        let owner = if document == 6 { "bob" } else { "ada" };
        if owner == "bob" {
            all.truncate(all.len() - chunks.len());
        }
        fixture.ready(owner, &format!("{document}.txt"), chunks).await;
    }
    let question = unit();
    let score = |embedding: &[f32]| embedding.iter().zip(&question).map(|(a, b)| a * b).sum::<f32>();
    all.sort_by(|a, b| score(&b.1).total_cmp(&score(&a.1)));
    let expected: Vec<_> = all.iter().take(20).map(|(text, _)| text.clone()).collect();
    let nearest = fixture.repository.nearest_chunks("ada", &question, 20).await.unwrap();
    assert_eq!(texts(fixture, "ada", &nearest).await, expected);
    assert!((nearest[0].score - score(&all[0].1)).abs() < 1e-5);
}

async fn c20_both_ways_are_fused(fixture: &Fixture) {
    fixture.ready("ada", "a.md", chunks(&["alpha", "beta", "alpha beta"])).await;
    let question = Question { text: "beta".into(), embedding: Some(axis(1)), limit: 2 };
    let hits = search(&fixture.repository, "ada", &question).await.unwrap();
    assert_eq!(hits.len(), 2);
    assert_eq!((hits[0].text.as_str(), hits[0].ordinal, hits[0].path.as_str()), ("beta", 1, "a.md"));
    assert!(hits[0].score > hits[1].score);
}

async fn c20_any_text_is_a_question(fixture: &Fixture) {
    fixture.ready("ada", "a.md", chunks(&["and or not near the end"])).await;
    for question in [
        "AND",
        "NOT (",
        "\"",
        "near/2 OR",
        "*",
        "a* -b ^c",
        "col:end",
        "'); drop table users; --",
        "\u{0}",
        "½ ² ﬁ İ",
        "東京",
        "!!!",
        "<->",
        "the & | ! end",
        "\\",
        ":*",
    ] {
        find(fixture, question).await;
    }
    assert_eq!(find(fixture, "NOT (the END").await.len(), 1);
    assert_eq!(find(fixture, &"word ".repeat(1600)).await.len(), 0);
}
