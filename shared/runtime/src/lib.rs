//! Running a service: what all of them do alike between `main` and their own logic.
//!
//! A service implements [`Service`]: a name, a [`Config`], and one function that assembles it. [`main`] is the whole
//! program around it; [`start`] runs one inside another program, such as the launcher or a test.
//!
//! In order: configuration (exit before anything binds) → telemetry → listeners → assembly → serving → first signal:
//! readiness off, a delay for load balancers to notice, GOAWAY, drain until a deadline, hard stop, telemetry flushed.
//!
//! Invariants: liveness is the process, readiness its own backend, never another service; every task is tracked; every
//! limit has a default.

#![deny(unsafe_code)] // but for `listeners::passed`, which says why

mod access;
mod admin;
mod assembly;
mod call;
pub mod config;
mod listeners;
mod metrics;
mod program;
mod readiness;
mod serve;
mod start;
pub mod telemetry;

pub use access::Authenticate;
pub use assembly::{Accept, Assembly, Connection, Scope, Service};
pub use config::Config;
pub use listeners::{BindError, Listeners};
pub use program::{main, run_until, run_with, runtime, termination};
pub use readiness::{Readiness, STARTING};
pub use serve::serve_connection;
pub use start::{Running, install_tls_provider, start};
