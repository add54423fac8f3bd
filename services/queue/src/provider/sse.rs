//! Server-sent events, as far as providers use them: lines `data: …`; all else is ignored.
//!
//! One event is one line here. The standard joins several `data` lines of an event; no provider sends such.

use std::collections::VecDeque;

use crate::handler::Failure;

/// The longest line. Longer ones are no tokens.
const MAX_LINE_BYTES: usize = 1 << 20;

/// Cuts a stream of bytes into lines, wherever it was cut on its way.
#[derive(Debug, Default)]
pub struct Lines {
    rest: Vec<u8>,
    data: VecDeque<String>,
}

impl Lines {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// When a line does not end.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(part);
            if self.rest.len() > MAX_LINE_BYTES {
                return Err(Failure::retry("the provider sent a line without end"));
            }
            if part.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&self.rest);
                if let Some(data) = line.trim_end_matches(['\r', '\n']).strip_prefix("data:") {
                    self.data.push_back(data.strip_prefix(' ').unwrap_or(data).to_owned());
                }
                self.rest.clear();
            }
        }
        Ok(())
    }

    /// The data of the next event that is complete.
    pub fn next_data(&mut self) -> Option<String> {
        self.data.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(parts: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        for part in parts {
            lines.push(part).unwrap();
        }
        std::iter::from_fn(|| lines.next_data()).collect()
    }

    #[test]
    fn comments_names_and_blank_lines_are_ignored() {
        let stream = b": keep-alive\r\n\r\nevent: x\nid: 4\ndata: {\"a\":1}\r\n\ndata:[DONE]\n\nnonsense\ndata: unfinished";
        assert_eq!(read(&[stream]), ["{\"a\":1}", "[DONE]"]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        assert!((0..3).any(|_| lines.push(&vec![b'x'; MAX_LINE_BYTES / 2]).is_err()));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_stream_is_cut(cuts in prop::collection::vec(0usize..60, 0..6)) {
            let stream = "data: grüße\n\ndata: 世界\n\n: c\ndata: end\n\n".as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&parts), ["grüße", "世界", "end"]);
        }
    }
}
