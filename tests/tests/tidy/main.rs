//! Keeps the house as ARCHITECTURE.md describes it. Every rule is a function from the repository's text to findings,
//! tested on small made-up repositories that break it, and then held against this one.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod arrows;
mod config;
mod contracts;
mod layers;
mod repository;
mod shape;
mod skeleton;
mod words;

use repository::Repository;

/// Fails with all findings at once.
#[track_caller]
fn assert_clean(findings: &[String]) {
    assert!(findings.is_empty(), "{} findings:\n  {}\n", findings.len(), findings.join("\n  "));
}

/// Fails unless there is exactly one finding, which names all of these.
#[track_caller]
fn assert_finds(findings: &[String], words: &[&str]) {
    let [finding] = findings else { panic!("expected one finding that names {words:?}, got {findings:#?}") };
    for word in words {
        assert!(finding.contains(word), "{finding:?} does not name {word:?}");
    }
}
