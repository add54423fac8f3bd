//! What clients notice when things are restarted, and when they fail: nothing, as far as it can be helped.
//!
//! Gateway and backends are processes of their own. Callers use tonic's own transport, which forgives little.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and reports"
)]

#[cfg(feature = "real-backends")]
mod app;
mod callers;
mod faults;
mod gateway;
mod load;
mod program;
mod restarts;

use std::{net::SocketAddr, time::Duration};

use weft_testkit::free_port;
use weft_tests::contract;

/// How long anything may take before the test gives up; a fraction of a second, unless the machine is overloaded.
const LIMIT: Duration = Duration::from_secs(60);

/// Where a program may listen.
fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()))
}
