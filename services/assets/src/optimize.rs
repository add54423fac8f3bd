//! Making files smaller without changing what they are.
//!
//! Every optimizer is deterministic, checks its own result, and gives up rather than guess: whoever asked keeps the
//! original then. Bump [`VERSION`] when an optimizer changes what it makes.

use std::{panic, thread};

mod css;
mod jpeg;
mod js;
mod nesting;
mod png;
pub(crate) mod pool;

pub use pool::{Load, Pool, PoolError};

/// Which generation of the optimizers made a variant.
pub const VERSION: u32 = 1;

/// The optimizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Scripts.
    Js,
    /// Style sheets.
    Css,
    /// PNG images.
    Png,
    /// JPEG images.
    Jpeg,
}

impl Kind {
    /// All, in the order of the statistics.
    pub const ALL: [Self; 4] = [Self::Js, Self::Css, Self::Png, Self::Jpeg];

    /// As shown in statistics and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Js => "js",
            Self::Css => "css",
            Self::Png => "png",
            Self::Jpeg => "jpeg",
        }
    }
}

/// What is not even tried.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest image in pixels.
    pub max_pixels: u64,
    /// Largest script or style sheet in bytes.
    pub max_text_bytes: u64,
}

/// Why an original was kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    /// The result had no fewer bytes.
    #[error("it would not be smaller")]
    NotSmaller,
    /// The result did not pass its check.
    #[error("the result did not pass its check")]
    Unverified,
    /// It is larger or nests deeper than is tried.
    #[error("it is too large or too intricate")]
    TooLarge,
    /// The optimizer could not read it.
    #[error("{0}")]
    Unreadable(String),
    /// The optimizer panicked.
    #[error("the optimizer crashed")]
    Panicked,
}

impl Kept {
    /// As a label.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotSmaller => "not_smaller",
            Self::Unverified => "unverified",
            Self::TooLarge => "too_large",
            Self::Unreadable(_) => "unreadable",
            Self::Panicked => "panicked",
        }
    }
}

/// Makes `source` smaller, or says why it stays as it is. Computes for up to seconds: call it from the [`Pool`].
///
/// `name` is the file's name, which tells a `.mjs` module; `pixels` is an image's size from its header.
pub fn optimize(kind: Kind, source: &[u8], name: &str, pixels: u64, limits: Limits) -> Result<Vec<u8>, Kept> {
    let is_text = matches!(kind, Kind::Js | Kind::Css);
    if is_text && source.len() as u64 > limits.max_text_bytes || !is_text && pixels > limits.max_pixels {
        return Err(Kept::TooLarge);
    }
    // C code reports its errors by unwinding, and a codec's defect must not cost more than its own result.
    let result = panic::catch_unwind(|| match kind {
        Kind::Js => js::minify(source, name),
        Kind::Css => css::minify(source),
        Kind::Png => png::recompress(source),
        Kind::Jpeg => jpeg::reencode(source),
    });
    let smaller = result.unwrap_or(Err(Kept::Panicked))?;
    if smaller.len() < source.len() { Ok(smaller) } else { Err(Kept::NotSmaller) }
}

/// Runs a recursive parser on a stack that its bounded nesting cannot exhaust; only what it touches becomes real memory.
fn on_deep_stack<T: Send>(
    stack_bytes: usize,
    work: impl FnOnce() -> Result<T, Kept> + Send,
) -> Result<T, Kept> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("parser".into()).stack_size(stack_bytes);
        match thread.spawn_scoped(scope, work) {
            Ok(running) => running.join().unwrap_or(Err(Kept::Panicked)),
            Err(_) => Err(Kept::TooLarge),
        }
    })
}

#[cfg(test)]
mod tests;
