//! The built-in responder: answers by quoting what fits best from the user's documents, and says that it does so.

use std::collections::HashSet;

use crate::{handler::chat::Passage, words};

/// Passages quoted in an answer.
const QUOTED: usize = 3;
/// The most characters of a quotation.
const MAX_QUOTE_CHARS: usize = 400;

/// An answer and the passages that it quotes, best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// What it quotes.
    pub quoted: Vec<Passage>,
}

/// Answers a question from passages, best first. Those that share no word with the question are no answer to it.
#[must_use]
pub fn answer(question: &str, passages: Vec<Passage>) -> Answer {
    let asked: HashSet<String> = words::stems(question).collect();
    let fits = |passage: &Passage| {
        let said = [&passage.path, &passage.heading, &passage.text];
        said.into_iter().any(|text| words::stems(text).any(|stem| asked.contains(&stem)))
    };
    let quoted = choose(passages.into_iter().filter(fits).collect());
    if quoted.is_empty() {
        let text = "Nothing in your documents matches this question. (No model is configured, so answers are \
            passages from your documents and nothing else.)";
        return Answer { text: text.to_owned(), quoted };
    }
    let mut text = String::from(
        "No model is configured, so this is retrieval only: the passages of your documents that match best.\n",
    );
    for (number, passage) in (1..).zip(&quoted) {
        text.push_str(&format!("\n{number}. {} — \"{}\"\n", passage.path, quote(&passage.text, &asked)));
    }
    Answer { text, quoted }
}

/// The best passage of each document first: three documents say more than one three times.
fn choose(passages: Vec<Passage>) -> Vec<Passage> {
    let mut documents = HashSet::new();
    let (first, more): (Vec<Passage>, Vec<Passage>) =
        passages.into_iter().partition(|passage| documents.insert(passage.document_id.clone()));
    first.into_iter().chain(more).take(QUOTED).collect()
}

/// The part of a passage where most of what was asked for is mentioned, cut at words, on one line.
fn quote(text: &str, asked: &HashSet<String>) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let hit: Vec<bool> =
        words.iter().map(|word| words::stems(word).any(|stem| asked.contains(&stem))).collect();
    let mut best = (0, 0, 0);
    let (mut start, mut chars, mut hits) = (0, 0, 0);
    for end in 0..words.len() {
        chars += words[end].chars().count() + 1;
        hits += usize::from(hit[end]);
        while chars > MAX_QUOTE_CHARS && start < end {
            chars -= words[start].chars().count() + 1;
            hits -= usize::from(hit[start]);
            start += 1;
        }
        if hits > best.2 || (hits == best.2 && start == best.0) {
            best = (start, end + 1, hits);
        }
    }
    let (from, to, _) = best;
    let mut quote: String = words[from..to].join(" ").replace('"', "'");
    if quote.chars().count() > MAX_QUOTE_CHARS {
        quote = quote.chars().take(MAX_QUOTE_CHARS).collect();
    }
    let before = if from > 0 { "… " } else { "" };
    let after = if to < words.len() { " …" } else { "" };
    format!("{before}{quote}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(document: &str, text: &str) -> Passage {
        Passage {
            document_id: document.to_owned(),
            path: format!("docs/{document}.md"),
            ordinal: 0,
            heading: String::new(),
            text: text.to_owned(),
            score: 1.0,
        }
    }

    #[test]
    fn passages_are_quoted_with_their_paths_one_document_after_the_other() {
        let passages = vec![
            passage("pool", "The pool closes idle connections."),
            passage("pool", "A pool has connections."),
            passage("cake", "Beat the eggs."),
            passage("net", "Each \"connection\" is checked."),
        ];
        let answer = answer("How are connections closed?", passages);
        assert!(answer.text.contains("retrieval only"));
        assert!(answer.text.contains("1. docs/pool.md — \"The pool closes idle connections.\""));
        assert!(answer.text.contains("2. docs/net.md — \"Each 'connection' is checked.\""));
        assert!(answer.text.contains("3. docs/pool.md — \"A pool has connections.\""));
        assert_eq!(answer.quoted.len(), 3, "the cake says nothing of connections");
    }

    #[test]
    fn nothing_that_matches_is_said_to_be_nothing() {
        let answer = answer("What is the meaning of life?", vec![passage("cake", "Beat the eggs.")]);
        assert!(answer.text.contains("Nothing in your documents matches"));
        assert_eq!(answer.quoted, []);
    }

    #[test]
    fn a_long_passage_is_cut_around_what_was_asked() {
        let text = format!("{} the quorum queue is durable {}", "before ".repeat(200), "after ".repeat(200));
        let asked = words::stems("durable quorum queue").collect();
        let quote = quote(&text, &asked);
        assert!(quote.contains("quorum queue is durable"), "{quote}");
        assert!(quote.starts_with("… ") && quote.ends_with(" …"), "{quote}");
        assert!(quote.chars().count() <= MAX_QUOTE_CHARS + 4);
    }
}
