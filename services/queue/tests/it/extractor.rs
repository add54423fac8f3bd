//! The extractor's children, each with an input that means harm.

use std::time::Duration;

use weft_queue::{
    config,
    extractor::{ExtractError, Extractor, frame::Request},
};

fn limits() -> config::Extractor {
    config::Extractor {
        command: vec![env!("CARGO_BIN_EXE_weft-queue").into(), "extract".into(), "--test-hooks".into()],
        timeout: Duration::from_secs(20),
        memory_bytes: 128 << 20,
        processes: 1,
        ..config::Extractor::default()
    }
}

fn request(content_type: &str) -> Request {
    Request { path: "notes".into(), content_type: content_type.into(), chunk_chars: 1000 }
}

async fn reason(extractor: &Extractor, content_type: &str) -> String {
    match extractor.extract(&request(content_type), b"boo").await {
        Err(ExtractError::Refused(reason)) => reason,
        other => panic!("{content_type}: {other:?}"),
    }
}

async fn works(extractor: &Extractor) {
    let chunks = extractor.extract(&request("text/markdown"), b"# Title\n\nText.").await.unwrap();
    assert_eq!(chunks[0].text, "# Title\n\nText.");
}

#[tokio::test]
async fn a_crash_costs_one_document() {
    let extractor = Extractor::new(limits());
    works(&extractor).await;
    assert!(reason(&extractor, "test/crash").await.contains("crashed the extractor (signal 6)"));
    works(&extractor).await;
}

#[tokio::test]
async fn a_hang_is_ended_by_the_clock() {
    let extractor = Extractor::new(config::Extractor { timeout: Duration::from_millis(500), ..limits() });
    assert!(reason(&extractor, "test/hang").await.contains("took longer than 500ms"));
    let patient = Extractor::new(limits());
    works(&patient).await;
}

#[tokio::test]
async fn a_spin_is_ended_by_the_kernel() {
    let extractor = Extractor::new(config::Extractor { cpu: Duration::from_secs(1), ..limits() });
    works(&extractor).await;
    assert!(reason(&extractor, "test/spin").await.contains("more processor time than allowed"));
    works(&extractor).await;
}

#[tokio::test]
async fn memory_is_bounded_by_the_kernel() {
    let extractor = Extractor::new(limits());
    let reason = reason(&extractor, "test/memory").await;
    assert!(reason.contains("more memory than allowed"), "{reason}");
    works(&extractor).await;
}

#[tokio::test]
async fn a_child_has_no_environment() {
    let extractor = Extractor::new(limits());
    assert_eq!(reason(&extractor, "test/environment").await, "");
}

#[tokio::test]
async fn a_document_over_the_limit_is_refused_unread() {
    let extractor = Extractor::new(config::Extractor { max_bytes: 10, ..limits() });
    let refused = extractor.extract(&request("text/plain"), b"eleven bytes").await.unwrap_err();
    assert_eq!(refused.to_string(), "the file has 12 bytes; at most 10 are read");
}

#[tokio::test]
async fn children_are_replaced_and_reaped() {
    let extractor = Extractor::new(config::Extractor { recycle_after: 2, ..limits() });
    for _ in 0..5 {
        works(&extractor).await;
    }
    extractor.reap(Duration::ZERO);
    works(&extractor).await;
}

#[tokio::test]
async fn media_types_of_tests_mean_nothing_to_a_child_that_is_not_under_test() {
    let command = vec![env!("CARGO_BIN_EXE_weft-queue").into(), "extract".into()];
    let extractor = Extractor::new(config::Extractor { command, ..limits() });
    let chunks = extractor.extract(&request("test/crash"), b"boo").await.unwrap();
    assert_eq!(chunks[0].text, "boo");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_no_fault_of_the_document() {
    let extractor = Extractor::new(config::Extractor { command: vec!["/nonexistent".into()], ..limits() });
    let error = extractor.extract(&request("text/plain"), b"hello").await.unwrap_err();
    assert!(matches!(error, ExtractError::Unavailable(_)));
}
