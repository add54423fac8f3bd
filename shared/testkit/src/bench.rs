//! Backends whose behaviour is known and load that does not wait: what a comparison of load balancers needs.
//!
//! A [`Backend`] answers each call after the time that the call asks for, behaves badly when told to, and keeps account
//! of its calls in flight. A [`Load`] sends calls when they are due, whatever became of those before, and counts each
//! one's latency from the time it was due.

mod backend;
mod behaviour;
mod call;
mod connection;
mod gauge;
mod load;
mod report;
mod workload;

pub use backend::{Backend, BackendOptions};
pub use load::{Load, run};
pub use report::{Quantiles, Report};
pub use workload::{Arrival, Schedule, Workload};
