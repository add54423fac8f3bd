//! The whole mesh through the gateway: processes that are killed, backends that die, replicas that share the load.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[cfg(feature = "real-backends")]
mod answer;
#[cfg(feature = "real-backends")]
mod commands;
mod crash;
#[cfg(feature = "real-backends")]
mod faults;
mod ingest;
mod ownership;
mod process;
mod provider;
mod replay;
#[cfg(feature = "real-backends")]
mod replicas;
#[cfg(feature = "real-backends")]
mod services;
#[cfg(feature = "real-backends")]
mod supervised;
mod trace;
mod upload;
