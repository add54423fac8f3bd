//! The cache service from outside: its store's contract on every implementation, its races, its outages, its API.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod bad_input;
mod conformance;
mod fixture;
mod model;
#[cfg(feature = "real-backends")]
mod outage;
mod race;
mod remote;
mod service;
