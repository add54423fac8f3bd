//! The database on SQLite, on PostgreSQL (feature `real-backends`), and through gRPC.

mod cached;
mod conformance;
mod crash;
mod fixture;
mod mesh;
mod peers;
mod refused;
#[cfg(feature = "real-backends")]
mod server_away;
mod streams;
