//! Decides which backend gets a call, and which backend may get any: pure code, without I/O, with the clock passed in.
//!
//! [`Backends`] is the shared view of a pool: an immutable list, swapped as a whole, of [`Backend`]s whose counters
//! survive the swap. [`Backends::pick`] chooses by weighted least connections and hands out an [`InFlight`] guard; the
//! backend's count falls when the guard is dropped, however the call ends. [`HealthMachine`] turns check results into
//! a state with rise and fall thresholds.
//!
//! Invariants: a count is the number of guards alive; a draining or unhealthy backend is never picked while a healthy
//! one is left; every thread sees the same counters.

#![forbid(unsafe_code)]

mod backend;
mod backends;
mod health;
mod least_connections;
pub mod outlier;
pub mod retry;
pub mod verdict;

pub use backend::{Backend, InFlight, MAX_WEIGHT, Origin, Outcome};
pub use backends::{Backends, ChangeError, Desired};
pub use health::{Health, HealthMachine, Thresholds};
