//! The numbered sentences of a seam's contract, each with a test of its number.
//!
//! A sentence is a line `/// 3. ...` in `services/<service>/src/<seam>.rs`; its tests are functions named `c03_...` in
//! the same package. Where a service has several numbered seams, only files whose path holds the seam's name count.
use std::collections::BTreeSet;

use crate::{Repository, assert_clean, assert_finds};

struct Seam<'a> {
    service: &'a str,
    name: &'a str,
    path: &'a str,
    sentences: Vec<usize>,
}

fn seams(repository: &Repository) -> Vec<Seam<'_>> {
    let files = repository.rust("services").filter_map(|(path, text)| {
        let (service, file) = path.strip_prefix("services/")?.split_once("/src/")?;
        let name = file.strip_suffix(".rs").filter(|name| !name.contains('/'))?;
        let sentences: Vec<usize> = text.lines().filter_map(sentence).collect();
        (!sentences.is_empty()).then_some(Seam { service, name, path, sentences })
    });
    files.collect()
}

/// The number of a line `/// 12. It does.`
fn sentence(line: &str) -> Option<usize> {
    line.trim_start().strip_prefix("/// ")?.split_once(". ")?.0.parse().ok()
}

/// The number of a line `pub(crate) async fn c12_it_does(...`.
fn test_number(line: &str) -> Option<usize> {
    let code = line.split("//").next()?;
    code.split_once("fn c")?.1.split_once('_')?.0.parse().ok()
}

fn untested(repository: &Repository) -> Vec<String> {
    let seams = seams(repository);
    seams
        .iter()
        .flat_map(|seam| {
            problems(repository, seam, seams.iter().filter(|other| other.service == seam.service).count() > 1)
        })
        .collect()
}

fn problems(repository: &Repository, seam: &Seam<'_>, one_of_several: bool) -> Vec<String> {
    let folder = format!("services/{}", seam.service);
    let mut findings = Vec::new();
    if !seam.sentences.iter().copied().eq(1..=seam.sentences.len()) {
        findings.push(format!("{}: its contract is numbered {:?}, not from 1 on", seam.path, seam.sentences));
    }
    let belongs = |path: &str| !one_of_several || path[folder.len()..].contains(seam.name);
    let files = repository.rust(&folder).filter(|(path, _)| belongs(path));
    let tested: BTreeSet<usize> = files.flat_map(|(_, text)| text.lines().filter_map(test_number)).collect();
    let promised: BTreeSet<usize> = seam.sentences.iter().copied().collect();
    let untested = promised.difference(&tested);
    findings.extend(
        untested.map(|number| format!("{}: sentence {number} has no test c{number:02}_...", seam.path)),
    );
    let unknown = tested.difference(&promised);
    findings.extend(
        unknown.map(|number| format!("{}: there is a test c{number:02}_... of no sentence", seam.path)),
    );
    findings
}

/// Seams that must state a contract.
const SEAMS: [&str; 5] = [
    "cache/src/store",
    "database/src/repository",
    "queue/src/jobs",
    "queue/src/broker",
    "assets/src/storage",
];

#[test]
fn every_sentence_has_a_test_and_every_test_a_sentence() {
    assert_clean(&untested(&Repository::here()));
}

#[test]
fn every_seam_states_its_contract() {
    let repository = Repository::here();
    let numbered: Vec<&str> = seams(&repository).iter().map(|seam| seam.path).collect();
    let silent = SEAMS
        .map(|seam| format!("services/{seam}.rs"))
        .into_iter()
        .filter(|path| !numbered.contains(&path.as_str()));
    assert_clean(&silent.map(|path| format!("{path} has no numbered contract")).collect::<Vec<_>>());
}

#[test]
fn a_sentence_without_a_test_is_found() {
    let repository = Repository::of(&[
        ("services/cache/src/store.rs", "/// 1. One.\n/// 2. Two.\npub trait Store {}"),
        ("services/cache/tests/it/conformance.rs", "async fn c01_one() {}\n"),
    ]);
    assert_finds(&untested(&repository), &["services/cache/src/store.rs", "sentence 2", "c02_"]);
}

#[test]
fn a_test_without_a_sentence_is_found() {
    let repository = Repository::of(&[
        ("services/cache/src/store.rs", "/// 1. One.\npub trait Store {}"),
        ("services/cache/tests/it/conformance.rs", "fn c01_one() {}\n    async fn c07_seven() {}"),
    ]);
    assert_finds(&untested(&repository), &["c07_", "no sentence"]);
}

#[test]
fn the_test_of_another_seam_does_not_count() {
    let repository = Repository::of(&[
        ("services/queue/src/jobs.rs", "/// 1. One.\n"),
        ("services/queue/src/broker.rs", "    /// 1. One.\n"),
        ("services/queue/tests/it/jobs.rs", "fn c01_one() {}\n"),
    ]);
    assert_finds(&untested(&repository), &["services/queue/src/broker.rs", "sentence 1"]);
}

#[test]
fn a_gap_in_the_numbers_is_found() {
    let repository = Repository::of(&[
        ("services/cache/src/store.rs", "/// 1. One.\n/// 3. Three.\n"),
        ("services/cache/tests/it/conformance.rs", "fn c01_one() {}\nfn c03_three() {}"),
    ]);
    assert_finds(&untested(&repository), &["[1, 3]"]);
}
