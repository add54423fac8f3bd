//! The database on SQLite, on PostgreSQL (feature `real-backends`), and through gRPC.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests, helpers included

mod cached;
mod conformance;
mod crash;
mod fixture;
mod insight;
mod mesh;
mod peers;
mod refused;
#[cfg(feature = "real-backends")]
mod server_away;
mod streams;
