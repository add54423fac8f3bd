//! How output is dressed: with colour for a person at a terminal, bare for a pipe or a file.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

/// What a piece of text is to the reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Nothing special.
    #[default]
    Plain,
    /// The name of a thing.
    Strong,
    /// Of less interest.
    Dim,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Not as it should be.
    Bad,
}

/// Dresses text, or leaves it bare.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    colour: bool,
}

impl Paint {
    /// Leaves everything bare.
    #[cfg(test)]
    pub(crate) const BARE: Self = Self { colour: false };

    /// For what is printed on stdout.
    pub(crate) fn stdout(colour_allowed: bool) -> Self {
        Self { colour: colour_allowed && io::stdout().is_terminal() }
    }

    /// For what is printed on stderr.
    pub(crate) fn stderr(colour_allowed: bool) -> Self {
        Self { colour: colour_allowed && io::stderr().is_terminal() }
    }

    /// The text in its tone.
    pub(crate) fn tone(self, tone: Tone, text: impl Display) -> String {
        let code = match tone {
            Tone::Strong => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
            Tone::Plain => return text.to_string(),
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }

    /// The text, strong.
    pub(crate) fn strong(self, text: impl Display) -> String {
        self.tone(Tone::Strong, text)
    }

    /// The text, dimmed.
    pub(crate) fn dim(self, text: impl Display) -> String {
        self.tone(Tone::Dim, text)
    }
}

/// Writes to stdout at once. False when nobody reads any more (`weft ask … | head`), which is no error.
///
/// # Errors
/// Everything but a closed pipe.
pub(crate) fn print(text: &str) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes to stderr, a line where the text does not end one. That nobody reads it is no error.
pub(crate) fn tell(text: impl Display) {
    let mut text = text.to_string();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Text from outside (a document, a model, a path) without the control characters that would drive the terminal.
/// Line breaks and tabs stay.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_paint_adds_no_escape_codes() {
        let tones = [Tone::Plain, Tone::Strong, Tone::Dim, Tone::Good, Tone::Warn, Tone::Bad];
        assert!(tones.iter().all(|&tone| Paint::BARE.tone(tone, "x") == "x"));
        assert_eq!(Paint { colour: true }.strong("x"), "\u{1b}[1mx\u{1b}[0m");
    }

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\tc\u{9b}"), "a[2Jb\n\tc");
    }
}
