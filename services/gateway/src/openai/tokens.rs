//! Counts the tokens of a stream of events (SSE) as it passes, however it is cut into pieces.
//!
//! Nothing is held back: what is kept is a copy of the last event's beginning, for the server's own count in it.

use std::mem;

use serde_json::Value;

/// How much of an event is looked at, in bytes; of a longer one it is taken that it carries something.
const EVENT_LIMIT: usize = 16 * 1024;

/// What has been seen of a stream of events.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The line that is coming, as far as it is looked at.
    line: Vec<u8>,
    /// The last event before the end of all.
    last: Vec<u8>,
    /// Events from the first one on that carries something.
    count: u64,
}

impl Events {
    /// Takes the next piece; whether there was an event in it that carries something, or one after it.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> bool {
        let before = self.count;
        while let Some(end) = piece.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, rest) = piece.split_at(end);
            self.extend(line);
            self.end_line();
            piece = rest.get(1..).unwrap_or_default();
        }
        self.extend(piece);
        self.count > before
    }

    fn extend(&mut self, part: &[u8]) {
        let room = EVENT_LIMIT - self.line.len();
        self.line.extend_from_slice(part.get(..room).unwrap_or(part));
    }

    fn end_line(&mut self) {
        if let Some(data) = data(&self.line)
            && data != b"[DONE]"
        {
            if self.count > 0 || carries_something(data) {
                self.count += 1;
            }
            mem::swap(&mut self.line, &mut self.last);
        }
        self.line.clear();
    }

    /// How many tokens there were: as the server counts them, if it does in its last event, else one for each event.
    pub(super) fn tokens(&self) -> u64 {
        let last = data(&self.last).and_then(|data| serde_json::from_slice::<Value>(data).ok());
        let used = last.and_then(|last| last.get("usage")?.get("completion_tokens")?.as_u64());
        used.unwrap_or(self.count)
    }
}

/// What stands in a line of data.
fn data(line: &[u8]) -> Option<&[u8]> {
    let data = line.strip_prefix(b"data:")?;
    Some(data.strip_prefix(b" ").unwrap_or(data))
}

/// Whether an event has something of the answer in it: the first one often has no more than a role.
fn carries_something(data: &[u8]) -> bool {
    let Ok(event) = serde_json::from_slice::<Value>(data) else { return true };
    if let Some(kind) = event.get("type").and_then(Value::as_str) {
        return kind.ends_with(".delta");
    }
    let Some(choices) = event.get("choices").and_then(Value::as_array) else { return true };
    choices.iter().any(|choice| {
        let delta = choice.get("delta").and_then(Value::as_object).into_iter().flatten();
        let mut parts = delta.filter(|(name, _)| *name != "role").map(|(_, part)| part);
        parts.any(is_something) || choice.get("text").is_some_and(is_something)
    })
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHAT: &str = concat!(
        ": comment\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\n",
        "event: x\r\ndata:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"}}]}\r\n\r\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: [DONE]\n\n",
    );
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":42}}\n\n";

    /// The tokens of a text in such pieces, and how many of these had a first or a further event in them.
    fn counted<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (u64, usize) {
        let mut events = Events::default();
        let with = pieces.filter(|piece| events.push(piece)).count();
        (events.tokens(), with)
    }

    #[test]
    fn a_cut_at_any_byte_changes_nothing() {
        let with_usage = CHAT.replace("data: [DONE]", &format!("{USAGE}data: [DONE]"));
        for (text, tokens) in [(CHAT, 3), (&with_usage, 42), (&CHAT.replace("\n", "\r"), 3)] {
            assert_eq!(counted([text.as_bytes()].into_iter()), (tokens, 1));
            for cut in 0..=text.len() {
                let (one, two) = text.as_bytes().split_at(cut);
                assert_eq!(counted([one, two].into_iter()).0, tokens, "cut at {cut}");
            }
            assert_eq!(counted(text.as_bytes().chunks(1)).0, tokens);
        }
        let lines = CHAT.split_inclusive('\n').map(str::as_bytes);
        assert_eq!(counted(lines), (3, 3), "the comment, the role and the end are none");
    }

    #[test]
    fn what_carries_something_is_told_from_what_does_not() {
        let carries = |event: &str| carries_something(event.as_bytes());
        for nothing in [
            r#"{"choices":[]}"#,
            r#"{"choices":[{"delta":{"role":"assistant"}}]}"#,
            r#"{"choices":[{"delta":{"role":"assistant","content":null,"tool_calls":[]}}]}"#,
            r#"{"choices":[{"text":""}]}"#,
            r#"{"type":"response.created","response":{"id":"r"}}"#,
        ] {
            assert!(!carries(nothing), "{nothing}");
        }
        for something in [
            r#"{"choices":[{"delta":{"content":"a"}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"a"}}]}"#,
            r#"{"choices":[{"delta":{}},{"delta":{"tool_calls":[{"index":0}]}}]}"#,
            r#"{"choices":[{"text":"a"}]}"#,
            r#"{"type":"response.output_text.delta","delta":"a"}"#,
            r#"{"token":"a"}"#,
            "what is no JSON",
        ] {
            assert!(carries(something), "{something}");
        }
    }

    #[test]
    fn a_long_event_is_one_and_no_more_of_it_is_kept_than_the_limit() {
        let mut events = Events::default();
        let long =
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "a".repeat(100_000));
        for piece in long.as_bytes().chunks(7000).chain([&b"data: x\n"[..]]) {
            events.push(piece);
            assert!(events.line.capacity() + events.last.capacity() <= 4 * EVENT_LIMIT);
        }
        assert_eq!(events.tokens(), 2);
    }

    proptest! {
        #[test]
        fn any_pieces_count_alike(
            text in prop::collection::vec(
                prop_oneof![Just("data: x"), Just("data: [DONE]"), Just("\n"), Just("\r\n"), Just("da"), Just(USAGE)],
                0..12,
            ),
            size in 1_usize..9,
        ) {
            let text = text.concat();
            let whole = counted([text.as_bytes()].into_iter()).0;
            prop_assert_eq!(counted(text.as_bytes().chunks(size)).0, whole);
        }

        #[test]
        fn anything_passes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut events = Events::default();
            events.push(&bytes);
            events.tokens();
        }
    }
}
