//! The queue service over gRPC, with tiny stand-ins for the database and assets services and a model provider.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, its helpers too; and stand-ins answer what they are told to"
)]

mod chat;
mod contract;
mod document;
mod extractor;
mod fake;
mod lifecycle;
#[cfg(feature = "real-backends")]
mod real;
mod watching;
mod world;
