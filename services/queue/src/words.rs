//! Words of a text, as the embedder and the responder compare them.

/// The words of a text in lower case: runs of letters and digits, in any script.
pub fn of(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// The words that carry meaning, stemmed.
pub fn stems(text: &str) -> impl Iterator<Item = String> {
    of(text).filter(|word| !is_common(word)).map(|word| stem(&word).to_owned())
}

/// A word without its commonest English endings. Not linguistics: only the same for forms of one word, mostly.
#[must_use]
pub fn stem(word: &str) -> &str {
    // An ending goes only if enough is left to tell words apart.
    const ENDINGS: [(&str, usize); 9] = [
        ("ations", 4),
        ("ation", 4),
        ("ings", 4),
        ("ing", 4),
        ("ions", 4),
        ("ion", 4),
        ("ies", 3),
        ("ed", 4),
        ("es", 4),
    ];
    if !word.is_ascii() {
        return word;
    }
    for (ending, least) in ENDINGS {
        if let Some(stem) = word.strip_suffix(ending)
            && stem.len() >= least
        {
            return stem;
        }
    }
    match word.strip_suffix('s') {
        Some(stem) if stem.len() >= 3 && !stem.ends_with('s') && !stem.ends_with('u') => trim_e(stem),
        _ => trim_e(word),
    }
}

/// `cache` and `caching` meet at `cach`.
fn trim_e(word: &str) -> &str {
    match word.strip_suffix(['e', 'y']) {
        Some(stem) if stem.len() >= 4 => stem,
        _ => word,
    }
}

/// Whether a word is so common in English that sharing it says nothing.
#[must_use]
pub fn is_common(word: &str) -> bool {
    COMMON.binary_search(&word).is_ok()
}

/// Sorted.
const COMMON: [&str; 128] = [
    "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "because",
    "been", "before", "being", "between", "both", "but", "by", "can", "could", "d", "did", "do", "does",
    "doing", "down", "each", "few", "for", "from", "further", "had", "has", "have", "having", "he", "her",
    "here", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "ll", "may", "me", "might",
    "more", "most", "much", "must", "my", "no", "nor", "not", "now", "of", "off", "on", "once", "one",
    "only", "or", "other", "our", "out", "over", "own", "per", "re", "s", "same", "shall", "she", "should",
    "so", "some", "such", "t", "than", "that", "the", "their", "them", "then", "there", "these", "they",
    "this", "those", "through", "to", "too", "under", "until", "up", "upon", "us", "use", "used", "uses",
    "using", "very", "was", "we", "were", "what", "when", "where", "which", "while", "who", "whom", "whose",
    "why", "will", "with", "would", "you", "your",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_words_are_sorted() {
        assert!(COMMON.is_sorted(), "binary search needs them sorted");
    }

    #[test]
    fn forms_of_a_word_have_one_stem() {
        for forms in [
            ["connection", "connections"],
            ["cache", "caching"],
            ["retries", "retried"],
            ["configure", "configured"],
            ["query", "queries"],
        ] {
            let stems: Vec<&str> = forms.iter().map(|form| stem(form)).collect();
            assert!(
                stems.windows(2).all(|pair| pair[0].starts_with(pair[1]) || pair[1].starts_with(pair[0])),
                "{stems:?}"
            );
        }
        assert_eq!(stem("class"), "class");
        assert_eq!(stem("bus"), "bus");
    }

    #[test]
    fn words_are_split_at_everything_but_letters_and_digits() {
        let words: Vec<String> = of("tokio::spawn(Über_größe, 42)").collect();
        assert_eq!(words, ["tokio", "spawn", "über", "größe", "42"]);
    }
}
