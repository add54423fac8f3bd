//! Backends whose behaviour is known and load that does not wait: what a comparison of proxies needs.
//!
//! A [`Backend`] answers each call as the call asks, after a time with one message or with many at fixed times, behaves
//! badly when told to, and keeps account of its calls in flight. A [`Load`] sends calls when they are due, whatever became
//! of those before, and counts each one's latency from the time it was due. [`Streams`] are held all at once, and the time
//! of each message runs from when the backend sent it.

mod asked;
mod backend;
mod behaviour;
mod call;
mod connection;
mod gauge;
mod load;
mod message;
mod options;
mod report;
mod streams;
mod ticks;
mod workload;

pub use backend::{Backend, BackendOptions};
pub use load::{Load, run};
pub use options::Rate;
pub use report::{Quantiles, Report};
pub use streams::{Streams, StreamsReport, hold};
pub use workload::{Arrival, Schedule, Workload};
