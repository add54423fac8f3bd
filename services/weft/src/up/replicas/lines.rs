//! Lines out of a stream of bytes, none longer than a bound.

/// The longest line that is passed on whole. A log line with a stack of causes is far shorter.
const LONGEST: usize = 8 * 1024;
/// What a line that was cut ends with.
const CUT: &str = " …";

/// Cuts bytes into lines as they come.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    cut: bool,
}

impl Lines {
    /// Takes more bytes, and hands out every line that they end.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(String)) {
        let mut parts = bytes.split(|&byte| byte == b'\n');
        self.take(parts.next().unwrap_or_default());
        for part in parts {
            each(self.end());
            self.take(part);
        }
    }

    /// What stands after the last line break, if anything does.
    pub(super) fn rest(&mut self) -> Option<String> {
        (!self.line.is_empty()).then(|| self.end())
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = LONGEST - self.line.len();
        self.cut |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end(&mut self) -> String {
        let mut text = String::from_utf8_lossy(&self.line).trim_end_matches('\r').to_owned();
        if std::mem::take(&mut self.cut) {
            text.push_str(CUT);
        }
        self.line.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |line| all.push(line));
        }
        all.extend(lines.rest());
        all
    }

    #[test]
    fn lines_come_whole_however_the_bytes_come() {
        assert_eq!(lines(&[b"one\ntw", b"o\r\n\nthr", b"ee"]), ["one", "two", "", "three"]);
        assert!(lines(&[b""]).is_empty());
        assert_eq!(lines(&[b"caf\xc3", b"\xa9 \xff\n"]), ["café \u{fffd}"]);
    }

    #[test]
    fn a_line_without_end_is_held_to_the_bound_and_the_next_is_whole() {
        let flood = vec![b'x'; 3 * LONGEST];
        let all = lines(&[&flood, &flood, b"\nnext\n"]);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0], "x".repeat(LONGEST) + CUT);
        assert_eq!(all[1], "next");
    }
}
