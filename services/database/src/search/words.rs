//! The words of a question: any text will do, and its punctuation means nothing.

use std::collections::HashSet;

/// Words looked for at most: more make a search slow and no better.
const MOST: usize = 64;
/// A longer word is no word, and PostgreSQL indexes none beyond 2 KiB.
const LONGEST: usize = 128;

/// Words too common in English to find anything by. A question of nothing else keeps them.
const COMMON: [&str; 74] = [
    "a", "about", "all", "am", "an", "and", "any", "are", "as", "at", "be", "by", "can", "could", "did",
    "do", "does", "for", "from", "had", "has", "have", "how", "i", "if", "in", "into", "is", "it", "its",
    "may", "me", "might", "my", "of", "on", "or", "our", "s", "shall", "should", "so", "t", "than", "that",
    "the", "their", "them", "then", "there", "these", "they", "this", "those", "to", "us", "was", "we",
    "were", "what", "when", "where", "which", "who", "whom", "why", "will", "with", "would", "you", "your",
    "tell", "please", "explain",
];

/// The words of a text, in lower case, each once, without the most common ones.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let all: Vec<_> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty() && word.len() <= LONGEST)
        .map(str::to_lowercase)
        // Lower case may bring in combining marks.
        .map(|word| word.chars().filter(|c| c.is_alphanumeric()).collect::<String>())
        .filter(|word| seen.insert(word.clone()))
        .collect();
    let mut rare: Vec<_> = all.iter().filter(|word| !COMMON.contains(&word.as_str())).cloned().collect();
    if rare.is_empty() {
        rare = all;
    }
    rare.truncate(MOST);
    rare
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn punctuation_and_common_words_go() {
        assert_eq!(words("How do I run `cargo build`, and why?"), ["run", "cargo", "build"]);
        assert_eq!(words("What is it?"), ["what", "is", "it"]);
        assert_eq!(words("Straße STRASSE straße"), ["straße", "strasse"]);
        assert!(words(" \"*:^ OR-( ").iter().all(|word| word == "or"));
        assert!(words("?!").is_empty());
    }

    proptest! {
        #[test]
        fn any_text_gives_few_plain_words(text in ".{0,400}") {
            let words = words(&text);
            prop_assert!(words.len() <= MOST);
            prop_assert!(words.iter().all(|word| word.chars().all(char::is_alphanumeric)));
        }
    }
}
