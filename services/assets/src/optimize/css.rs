//! Style sheets, by Lightning CSS, which preserves behaviour; no browser is targeted, so nothing is lowered or prefixed.

use lightningcss::{
    stylesheet::{MinifyOptions, ParserOptions, PrinterOptions, StyleSheet},
    targets::{Features, Targets},
};

use super::{Kept, nesting};

/// Brackets deeper than anybody writes.
const MAX_NESTING: usize = 500;

/// Stack of the thread that parses.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Rounds after which the minifier must have come to rest.
const MAX_ROUNDS: usize = 3;

/// Minifies a style sheet.
pub(super) fn minify(source: &[u8]) -> Result<Vec<u8>, Kept> {
    let source = std::str::from_utf8(source).map_err(|_| Kept::Unreadable("not UTF-8".into()))?;
    if nesting::of_css(source) > MAX_NESTING {
        return Err(Kept::TooLarge);
    }
    super::on_deep_stack(STACK_BYTES, || until_at_rest(source))
}

fn until_at_rest(source: &str) -> Result<Vec<u8>, Kept> {
    let mut css = once(source).map_err(Kept::Unreadable)?;
    for _ in 0..MAX_ROUNDS {
        let again = once(&css).map_err(|_| Kept::Unverified)?;
        if again == css {
            return Ok(css.into_bytes());
        }
        css = again;
    }
    Err(Kept::Unverified)
}

fn once(source: &str) -> Result<String, String> {
    // A range like `(width >= 600px)` is shorter and newer than what most style sheets were tested with.
    let targets = Targets { include: Features::MediaRangeSyntax, ..Targets::default() };
    let mut sheet = StyleSheet::parse(source, ParserOptions::default()).map_err(|e| e.to_string())?;
    sheet.minify(MinifyOptions { targets, ..MinifyOptions::default() }).map_err(|e| e.to_string())?;
    let printer = PrinterOptions { minify: true, targets, ..PrinterOptions::default() };
    sheet.to_css(printer).map(|printed| printed.code).map_err(|e| e.to_string())
}
