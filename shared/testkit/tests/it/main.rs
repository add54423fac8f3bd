//! The proxy in front of an in-process server, the benchmark's programs, and the private servers themselves.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod bench;
mod proxy;

#[cfg(feature = "real-backends")]
mod command;
#[cfg(feature = "real-backends")]
mod postgres;
#[cfg(feature = "real-backends")]
mod rabbitmq;
#[cfg(feature = "real-backends")]
mod redis;
#[cfg(feature = "real-backends")]
mod s3;

use std::time::Duration;

/// Longer than anything here takes, shorter than anybody wants to wait.
const SOON: Duration = Duration::from_secs(20);
/// Long enough to see that nothing comes.
#[cfg(feature = "real-backends")]
const A_WHILE: Duration = Duration::from_millis(300);
