//! How deeply a script may nest, found without parsing it.
//!
//! The parsers are recursive, and a stack that overflows ends the process. So before anything is parsed its nesting is
//! bounded from above by one pass over the bytes: brackets, plus the tokens since the last point at which everything open
//! on the same bracket level has surely closed. Where this pass cannot be sure of what a token is, it says so.

use self::Prev::{Ambiguous, CloseBrace, Operand, Operator};

/// What the pass found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nesting {
    /// At most this deep.
    AtMost(usize),
    /// Not to be told apart without parsing.
    Unsure,
    /// Not a script at all.
    Broken(&'static str),
}

/// What stood before, as far as it decides what a `/` begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prev {
    /// The end of an expression: a `/` divides.
    Operand,
    /// Anything an expression follows: a `/` begins a regular expression.
    Operator,
    /// A `}`: a `/` after it may be either; a word after it begins a statement.
    CloseBrace,
    /// A `/` may be either.
    Ambiguous,
}

#[derive(Debug, Default)]
struct Level {
    close: u8,
    /// Tokens since all expressions on this level have closed.
    tokens: usize,
    /// Statements that wait for their body: `if (a) if (b) …`.
    heads: usize,
    /// Whether the bracket is the head of `if`, `for`, `while` or `with`.
    head: bool,
    /// Whether the bracket is a `${` in a template.
    template: bool,
}

/// Bounds the nesting of CSS, which nests by brackets only; brackets in strings and comments count too.
pub(super) fn of_css(source: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    // A closing bracket in a string hides an opening one: count those that could.
    let hidden =
        source.bytes().filter(|b| matches!(b, b'"' | b'\'')).count() / 2 + source.matches("/*").count();
    if deepest + hidden <= 64 { deepest + hidden } else { deepest.max(css_brackets_in_code(source)) }
}

/// The same without strings and comments, which a style sheet delimits unambiguously.
fn css_brackets_in_code(source: &str) -> usize {
    let bytes = source.as_bytes();
    let (mut depth, mut deepest, mut at) = (0_usize, 0, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' => at = end_of_css_string(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = end_of_block_comment(bytes, at).unwrap_or(bytes.len());
            }
            b'\\' => at += 1,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
        at += 1;
    }
    deepest
}

fn end_of_css_string(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 1,
            b'\n' => return at,
            _ if byte == quote => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

/// The last byte of the comment that begins at `start`.
fn end_of_block_comment(bytes: &[u8], start: usize) -> Option<usize> {
    bytes.get(start + 2..)?.windows(2).position(|two| two == b"*/").map(|at| start + 2 + at + 1)
}

/// Bounds the nesting of JavaScript.
pub(super) fn of_js(source: &str) -> Nesting {
    let mut pass = Pass::new(source.as_bytes());
    match pass.run() {
        Ok(()) => Nesting::AtMost(pass.deepest),
        Err(end) => end,
    }
}

struct Pass<'a> {
    bytes: &'a [u8],
    at: usize,
    levels: Vec<Level>,
    /// Sum over `levels`, kept up to date.
    depth: usize,
    deepest: usize,
    prev: Prev,
    prev_word: &'a [u8],
    after_dot: bool,
    /// A statement has ended, unless `else` or `while` follows.
    ended: bool,
    line_has_code: bool,
}

type Step = Result<(), Nesting>;

impl<'a> Pass<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        Self {
            bytes,
            at: 0,
            levels: vec![Level::default()],
            depth: 1,
            deepest: 1,
            prev: Operator,
            prev_word: b"",
            after_dot: false,
            ended: true,
            line_has_code: false,
        }
    }

    fn run(&mut self) -> Step {
        if self.bytes.starts_with(b"#!") {
            self.skip_line();
        }
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'\n' | b'\r' => self.newline(),
                b' ' | b'\t' | 0x0b | 0x0c => self.at += 1,
                b'/' => self.slash()?,
                b'"' | b'\'' => self.string(byte)?,
                b'`' => self.template(1)?,
                b'(' | b'[' | b'{' => self.open(byte),
                b')' | b']' | b'}' => self.close(byte)?,
                b';' | b',' => self.separator(byte),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | b'#' | b'@' => self.word(),
                b'\\' | 0x80.. => return Err(Nesting::Unsure),
                _ => self.operator(byte)?,
            }
        }
        if self.levels.len() == 1 { Ok(()) } else { Err(Nesting::Broken("brackets that do not match")) }
    }

    fn level(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    fn count(&mut self) {
        self.level().tokens += 1;
        self.deeper();
    }

    fn deeper(&mut self) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        self.line_has_code = true;
    }

    fn close_expressions(&mut self) {
        self.depth -= std::mem::take(&mut self.level().tokens);
    }

    fn close_statements(&mut self) {
        self.close_expressions();
        self.depth -= std::mem::take(&mut self.level().heads);
    }

    /// Settles whether the statement before this token has ended.
    fn settle(&mut self) {
        if std::mem::take(&mut self.ended) {
            self.close_statements();
        }
    }

    fn newline(&mut self) {
        self.line_has_code = false;
        self.at += 1;
    }

    fn skip_line(&mut self) {
        while let Some(rest) = self.bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            if matches!(rest[0], b'\n' | b'\r')
                || rest.starts_with(b"\xe2\x80\xa8")
                || rest.starts_with(b"\xe2\x80\xa9")
            {
                break;
            }
            self.at += 1;
        }
        // The two separators are line ends to a script, and three bytes to us.
        if self.bytes.get(self.at) == Some(&0xe2) {
            self.newline();
            self.at += 2;
        }
    }

    fn slash(&mut self) -> Step {
        match self.bytes.get(self.at + 1) {
            Some(b'/') => self.skip_line(),
            Some(b'*') => {
                let end = end_of_block_comment(self.bytes, self.at)
                    .ok_or(Nesting::Broken("unterminated comment"))?;
                if self.bytes[self.at..end].contains(&b'\n') {
                    self.line_has_code = false;
                }
                self.at = end + 1;
            }
            _ => match self.prev {
                Operand => self.plain_operator(),
                Operator => {
                    self.settle();
                    self.at =
                        self.end_of_regex().ok_or(Nesting::Broken("unterminated regular expression"))?;
                    self.operand();
                }
                CloseBrace | Ambiguous => self.either()?,
            },
        }
        Ok(())
    }

    /// A `/` that may divide or begin a regular expression: fine if both readings leave us in the same place.
    fn either(&mut self) -> Step {
        self.settle();
        let Some(end) = self.end_of_regex() else {
            self.plain_operator();
            return Ok(());
        };
        let body = &self.bytes[self.at + 1..end - 1];
        let matters = |byte: &u8| b"\"'`(){}[];,\\".contains(byte) || *byte >= 0x80;
        if body.iter().any(matters) || matches!(self.bytes.get(end), Some(b'/' | b'*')) {
            return Err(Nesting::Unsure);
        }
        for _ in body {
            self.count();
        }
        self.at = end;
        self.operand();
        self.prev = Ambiguous;
        Ok(())
    }

    /// The place after the regular expression that begins here, if one does.
    fn end_of_regex(&self) -> Option<usize> {
        let mut in_class = false;
        let mut at = self.at + 1;
        loop {
            match self.bytes.get(at)? {
                b'\n' | b'\r' => return None,
                0xe2 if matches!(self.bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])) => return None,
                b'\\' => at += 1,
                b'[' => in_class = true,
                b']' => in_class = false,
                b'/' if !in_class => return Some(at + 1),
                _ => {}
            }
            at += 1;
        }
    }

    fn string(&mut self, quote: u8) -> Step {
        self.settle();
        let mut at = self.at + 1;
        loop {
            match self.bytes.get(at) {
                None | Some(b'\n') => return Err(Nesting::Broken("unterminated string")),
                Some(b'\\') => at += 1 + usize::from(self.bytes.get(at + 1..at + 3) == Some(b"\r\n")),
                Some(byte) if *byte == quote => break,
                Some(_) => {}
            }
            at += 1;
        }
        self.at = at + 1;
        self.operand();
        Ok(())
    }

    /// The characters of a template, from `skip` bytes further on to its end or the next `${`.
    fn template(&mut self, skip: usize) -> Step {
        self.settle();
        self.count();
        self.at += skip;
        loop {
            match self.bytes.get(self.at) {
                None => return Err(Nesting::Broken("unterminated template")),
                Some(b'\\') => self.at += 2,
                Some(b'`') => break,
                Some(b'$') if self.bytes.get(self.at + 1) == Some(&b'{') => {
                    self.at += 1;
                    self.open(b'{');
                    self.level().template = true;
                    return Ok(());
                }
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        self.operand();
        Ok(())
    }

    fn open(&mut self, byte: u8) {
        self.settle();
        self.deeper();
        let close = match byte {
            b'(' => b')',
            b'[' => b']',
            _ => b'}',
        };
        let head = byte == b'(' && matches!(self.prev_word, b"if" | b"for" | b"while" | b"with");
        self.levels.push(Level { close, head, ..Level::default() });
        self.at += 1;
        self.after(Operator);
        self.ended = byte == b'{';
    }

    fn close(&mut self, byte: u8) -> Step {
        let Some(level) = self.levels.pop().filter(|level| level.close == byte) else {
            return Err(Nesting::Broken("brackets that do not match"));
        };
        self.depth -= level.tokens + level.heads + 1;
        self.ended = false;
        if level.template {
            return self.template(1);
        }
        self.at += 1;
        self.count();
        self.after(match byte {
            b')' if level.head => Operator,
            b'}' => CloseBrace,
            _ => Operand,
        });
        Ok(())
    }

    fn separator(&mut self, byte: u8) {
        self.close_expressions();
        self.line_has_code = true;
        self.at += 1;
        self.after(Operator);
        self.ended |= byte == b';';
    }

    fn word(&mut self) {
        let rest = &self.bytes[self.at..];
        let is_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | b'#' | b'@');
        let word = &rest[..rest.iter().position(|b| !is_word(b)).unwrap_or(rest.len())];
        self.at += word.len();
        let is_name = std::mem::take(&mut self.after_dot);
        let before = self.prev_word;
        let continues = matches!(word, b"else" | b"while");
        if !is_name && self.prev == CloseBrace && !continues && !is_binary(word) {
            self.ended = true;
        }
        if continues {
            self.ended = false;
        }
        self.settle();
        if !is_name && begins_statement(word) {
            self.close_expressions();
        }
        if !is_name && matches!(word, b"if" | b"else" | b"for" | b"while" | b"do" | b"with") {
            self.level().heads += 1;
            self.deeper();
        } else {
            self.count();
        }
        self.after(if is_name { Operand } else { what_follows(word) });
        // `for await (` has the head of a `for`.
        self.prev_word = match word {
            b"await" => before,
            _ if is_name => b"",
            _ => word,
        };
    }

    fn operator(&mut self, byte: u8) -> Step {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(b"<!--") || (rest.starts_with(b"-->") && !self.line_has_code) {
            return Err(Nesting::Unsure);
        }
        if rest.starts_with(b"++") || rest.starts_with(b"--") {
            self.settle();
            self.count();
            self.count();
            self.at += 2;
            self.after(Ambiguous);
            return Ok(());
        }
        self.plain_operator();
        self.after_dot = byte == b'.';
        Ok(())
    }

    fn plain_operator(&mut self) {
        self.settle();
        self.count();
        self.at += 1;
        self.after(Operator);
    }

    fn operand(&mut self) {
        self.count();
        self.after(Operand);
    }

    fn after(&mut self, prev: Prev) {
        self.prev = prev;
        self.after_dot = false;
        self.prev_word = b"";
    }
}

/// Words that continue an expression after an operand.
fn is_binary(word: &[u8]) -> bool {
    matches!(word, b"in" | b"of" | b"instanceof" | b"as" | b"from" | b"satisfies")
}

/// Words that stand only at the beginning of a statement, so that every expression before them has ended.
fn begins_statement(word: &[u8]) -> bool {
    matches!(
        word,
        b"const"
            | b"var"
            | b"return"
            | b"throw"
            | b"switch"
            | b"try"
            | b"break"
            | b"continue"
            | b"export"
            | b"if"
            | b"for"
    )
}

fn what_follows(word: &[u8]) -> Prev {
    match word {
        b"of" | b"yield" | b"await" | b"async" | b"let" | b"static" | b"get" | b"set" => Ambiguous,
        b"return" | b"typeof" | b"case" | b"in" | b"void" | b"delete" | b"do" | b"else" | b"instanceof"
        | b"new" | b"throw" | b"default" | b"extends" | b"if" | b"for" | b"while" | b"with" => Operator,
        _ => Operand,
    }
}

#[cfg(test)]
mod tests;
