//! The cases, as the Rust client runs them.

pub(super) mod ending;
pub(super) mod streaming;
pub(super) mod unary;
