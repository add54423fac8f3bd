//! Words that must not stand on main.
use crate::{Repository, assert_clean, assert_finds};

/// Split, so that this file does not find itself.
const FORBIDDEN: [(&str, &str); 6] = [
    (concat!("TO", "DO"), "what is missing stands under Known limits"),
    (concat!("FIX", "ME"), "what is missing stands under Known limits"),
    (concat!("to", "do!("), "what is missing stands under Known limits"),
    (concat!("unimple", "mented!("), "what is missing stands under Known limits"),
    (
        concat!("#[ign", "ore"),
        "a test that is not run guards nothing; what needs servers is behind real-backends",
    ),
    (concat!("thread::sl", "eep("), "wait for a condition with a deadline"),
];

fn forbidden(repository: &Repository) -> Vec<String> {
    let files = repository
        .files()
        .filter(|(path, _)| path.ends_with(".rs") || path.ends_with(".proto") || path.ends_with(".sql"));
    let lines = files
        .flat_map(|(path, text)| text.lines().enumerate().map(move |(index, line)| (path, index + 1, line)));
    let found = lines.flat_map(|(path, number, line)| {
        let words = FORBIDDEN.iter().filter(move |(word, _)| line.contains(word));
        words.map(move |(word, why)| format!("{path}:{number}: {word}: {why}"))
    });
    found.collect()
}

#[test]
fn nothing_is_left_for_later() {
    assert_clean(&forbidden(&Repository::here()));
}

#[test]
fn each_forbidden_word_is_found() {
    for (word, _) in FORBIDDEN {
        let text = format!("//! A.\n    {word}\n");
        assert_finds(&forbidden(&Repository::of(&[("src/a.rs", &text)])), &["src/a.rs:2", word]);
    }
}
