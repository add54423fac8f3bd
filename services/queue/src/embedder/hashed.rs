//! Hashed features: a vector from the words of a text alone, the same on every machine and for ever.
//!
//! Signed feature hashing (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009) of
//! words, word pairs and the character n-grams of words, with sublinear term frequency. Words are folded to lower case
//! and lightly stemmed; the commonest weigh little. It knows no meaning: it finds texts that share words, parts of
//! words and turns of phrase.

use super::normalise;
use crate::words;

/// The length of its vectors.
pub const DIMENSIONS: usize = 384;

const WORD: f32 = 1.0;
const COMMON_WORD: f32 = 0.05;
const PAIR: f32 = 0.5;
const NGRAM: f32 = 0.12;
/// Longer words are hashes and encoded data; their n-grams say nothing.
const MAX_WORD_CHARS: usize = 40;

/// Embeds one text.
#[must_use]
pub fn embed(text: &str) -> Vec<f32> {
    let mut features = features(text);
    // Equal ones side by side, and all in one order: sums of floats depend on it.
    features.sort_unstable_by_key(|(feature, _)| *feature);
    let mut vector = vec![0.0; DIMENSIONS];
    for same in features.chunk_by(|(a, _), (b, _)| a == b) {
        let (feature, weight) = same[0];
        let times = same.len() as f32;
        let sign = if feature >> 63 == 0 { 1.0 } else { -1.0 };
        let place = usize::try_from(feature % DIMENSIONS as u64).unwrap_or(0);
        vector[place] += sign * weight * (1.0 + times.ln());
    }
    normalise(&mut vector);
    vector
}

/// Every feature with its weight, as often as it occurs.
fn features(text: &str) -> Vec<(u64, f32)> {
    let mut features = Vec::with_capacity(text.len() * 2);
    let mut previous: Option<String> = None;
    for word in words::of(text) {
        if words::is_common(&word) {
            features.push((hash(b'w', &[&word]), COMMON_WORD));
            continue;
        }
        let stem = words::stem(&word);
        features.push((hash(b'w', &[stem]), WORD));
        if let Some(previous) = &previous {
            features.push((hash(b'p', &[previous, stem]), PAIR));
        }
        add_ngrams(&mut features, stem);
        previous = Some(stem.to_owned());
    }
    features
}

/// N-grams of three and four characters of the word between its bounds, so that forms of a word meet.
fn add_ngrams(features: &mut Vec<(u64, f32)>, word: &str) {
    let bounded = format!("^{word}$");
    let ends: Vec<usize> = bounded.char_indices().map(|(at, _)| at).chain([bounded.len()]).collect();
    if ends.len() > MAX_WORD_CHARS {
        return;
    }
    for length in [3, 4] {
        for ends in ends.windows(length + 1) {
            features.push((hash(b'n', &[&bounded[ends[0]..ends[length]]]), NGRAM));
        }
    }
}

/// FNV-1a, finished as in SplitMix64 so that all bits depend on all bytes.
fn hash(kind: u8, parts: &[&str]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut feed = |byte: u8| state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    feed(kind);
    for part in parts {
        part.bytes().for_each(&mut feed);
        feed(0);
    }
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn likeness(a: &str, b: &str) -> f32 {
        embed(a).iter().zip(embed(b)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn a_question_is_nearest_to_the_passage_that_shares_its_words() {
        let passages = [
            "The pool keeps at least ten connections open and closes those idle for thirty seconds.",
            "Cakes rise because baking powder gives off gas when it is heated in the oven.",
            "The gateway marks a backend as down when two health checks fail one after the other.",
        ];
        let best = |question: &str| {
            let score = |i: &usize| likeness(question, passages[*i]);
            (0..passages.len()).max_by(|a, b| score(a).total_cmp(&score(b))).unwrap()
        };
        assert_eq!(best("When are idle connections of the pool closed?"), 0);
        assert_eq!(best("Why does a cake rise in the oven?"), 1);
        assert_eq!(best("How many failed health checks mark a backend down?"), 2);
    }

    #[test]
    fn forms_of_a_word_are_alike_and_common_words_hardly_count() {
        assert!(likeness("configured connections", "configuring a connection") > 0.5);
        assert!(likeness("what is the of and", "sharding") < 0.2);
    }

    #[test]
    fn it_never_changes() {
        let digest: i64 = embed("Durable jobs, published once.")
            .iter()
            .enumerate()
            .map(|(i, value)| (value * 1e4).round() as i64 * (i as i64 + 1))
            .sum();
        assert_eq!(digest, GOLDEN, "stored vectors would no longer match questions");
    }

    const GOLDEN: i64 = 4_265_786;

    proptest! {
        #[test]
        fn vectors_have_length_one_or_zero(text in "\\PC{0,300}") {
            let vector = embed(&text);
            let length: f32 = vector.iter().map(|value| value * value).sum();
            prop_assert_eq!(vector.len(), DIMENSIONS);
            prop_assert!(length == 0.0 || (length - 1.0).abs() < 1e-3, "{}", length);
        }
    }
}
