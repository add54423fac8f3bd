//! Text in pieces that can be found and quoted: about a thousand characters each, cut where the text itself pauses.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use text_splitter::{MarkdownSplitter, TextSplitter};

use super::{
    frame::Chunk,
    text::{Markup, Text},
};

/// The most chunks of one document: what the database takes.
const MAX_CHUNKS: usize = 100_000;
/// The most that a heading may be, in characters.
const MAX_HEADING_CHARS: usize = 200;

/// A heading and where it begins.
struct Heading {
    offset: usize,
    level: usize,
    text: String,
}

/// Splits a text into chunks of at most `chars` characters, each with the headings it stands under, outermost first.
#[must_use]
pub fn split(text: &Text, chars: usize) -> Vec<Chunk> {
    let content = text.content.as_str();
    match text.markup {
        Markup::Plain => {
            let splitter = TextSplitter::new(chars);
            let chunk = |piece: &str| Chunk { heading: String::new(), text: piece.to_owned() };
            splitter.chunks(content).take(MAX_CHUNKS).map(chunk).collect()
        }
        Markup::Markdown => {
            let headings = headings(content);
            let splitter = MarkdownSplitter::new(chars);
            let pieces = splitter.chunk_indices(content).take(MAX_CHUNKS);
            pieces
                .filter(|(_, piece)| !is_bare_fence(piece))
                .map(|(offset, piece)| Chunk {
                    heading: heading_at(&headings, offset),
                    text: piece.to_owned(),
                })
                .collect()
        }
    }
}

/// Whether a piece is only what opens or closes a code block: the splitter leaves that over from a block that it splits.
fn is_bare_fence(piece: &str) -> bool {
    piece.lines().map(str::trim).all(|line| line.starts_with("```") || line.starts_with("~~~"))
}

fn headings(content: &str) -> Vec<Heading> {
    let mut headings: Vec<Heading> = Vec::new();
    let mut inside = false;
    for (event, range) in Parser::new_ext(content, Options::ENABLE_TABLES).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                inside = true;
                headings.push(Heading { offset: range.start, level: level as usize, text: String::new() });
            }
            Event::End(TagEnd::Heading(_)) => inside = false,
            Event::Text(text) | Event::Code(text) if inside => {
                if let Some(heading) = headings.last_mut() {
                    heading.text.push_str(&text);
                }
            }
            _ => {}
        }
    }
    headings
}

/// The path of headings in force at an offset: `Install > From source`.
fn heading_at(headings: &[Heading], offset: usize) -> String {
    let before = headings.partition_point(|heading| heading.offset <= offset);
    let mut path: Vec<&str> = Vec::new();
    let mut below = usize::MAX;
    for heading in headings[..before].iter().rev() {
        if heading.level < below {
            path.push(heading.text.trim());
            below = heading.level;
        }
    }
    path.reverse();
    path.join(" > ").chars().take(MAX_HEADING_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn markdown(content: &str) -> Text {
        Text { markup: Markup::Markdown, content: content.to_owned() }
    }

    #[test]
    fn chunks_carry_the_headings_they_stand_under() {
        let long = "word ".repeat(30);
        let content = format!("# Guide\n\n{long}\n\n## `Install`\n\n{long}\n\n# Use\n\n{long}");
        let headings: Vec<String> =
            split(&markdown(&content), 180).into_iter().map(|chunk| chunk.heading).collect();
        assert_eq!(headings, ["Guide", "Guide > Install", "Use"]);
    }

    #[test]
    fn what_opens_a_code_block_is_no_chunk_of_its_own() {
        let code: String = (0..60).map(|n| format!("let value_{n} = compute({n});\n")).collect();
        let content = format!("# Example\n\nSome words before it.\n\n```rust,no_run\n{code}```\n");
        let chunks = split(&markdown(&content), 400);
        assert!(chunks.len() > 2 && chunks.iter().all(|chunk| chunk.text.contains(' ')), "{chunks:?}");
        assert!(chunks.iter().any(|chunk| chunk.text.contains("value_59")), "{chunks:?}");
    }

    #[test]
    fn an_empty_document_has_no_chunks() {
        assert_eq!(split(&markdown(" \n\n"), 1000), []);
    }

    proptest! {
        #[test]
        fn no_word_is_lost_and_no_chunk_too_long(words in prop::collection::vec("[a-z]{1,12}", 0..300), chars in 50usize..400) {
            let content = words.join(" ");
            for markup in [Markup::Plain, Markup::Markdown] {
                let chunks = split(&Text { markup, content: content.clone() }, chars);
                prop_assert!(chunks.iter().all(|chunk| chunk.text.chars().count() <= chars));
                let kept: Vec<&str> = chunks.iter().flat_map(|chunk| chunk.text.split_whitespace()).collect();
                prop_assert_eq!(&kept, &words);
            }
        }
    }
}
