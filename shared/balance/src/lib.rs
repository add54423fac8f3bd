//! Decides which backend gets a call, and which backend may get any: pure code, without I/O, with the clock passed in.
//!
//! [`Backends`] is the shared view of a pool: an immutable list, swapped as a whole, of [`Backend`]s whose counters
//! survive the swap. [`Backends::pick`] decides in three steps and hands out an [`InFlight`] guard:
//!
//! 1. *Who may*: one judgement per backend, the same for every policy. Not draining, healthy, not ejected, not tried by
//!    this call, with room, in the tier that the call falls to. Backends that no check has seen come after all
//!    healthy ones, ill ones only in a [`Panic`].
//! 2. *Who does*: the pool's [`Policy`] compares those, by weights that [`SlowStart`] lowers for who just returned.
//! 3. *Reserve, then compare*: the call is counted first, and moves on if concurrent picks made its choice the worse one
//!    meanwhile.
//!
//! The count falls when the guard is dropped, however the call ends. [`HealthMachine`] turns check results into a state
//! with rise and fall thresholds. [`Queue`] is the line in which calls wait for room. [`PickRecord`]s tell what the last
//! picks compared, and [`simulator`] replays a trace of calls against other settings, through the very same pick.
//!
//! Apart from the pick, [`verdict`] says what the end of a call means, [`outlier`] whom to eject for it, and [`retry`]
//! whether to send it again.
//!
//! Invariants: a count is the number of guards alive; a draining backend, or one that refused a connection, is never
//! picked; one known to be unhealthy is not while a healthy one has room; nobody exceeds `max_in_flight`; every thread
//! sees the same counters.

#![forbid(unsafe_code)]

mod backend;
mod backends;
mod clock;
mod contest;
mod eligibility;
#[cfg(test)]
mod fixture;
mod foreign;
mod health;
mod in_flight;
pub mod outlier;
mod policy;
mod queue;
mod recorder;
pub mod retry;
mod settings;
pub mod simulator;
mod slow_start;
mod tiers;
pub mod verdict;

pub use backend::{Backend, Desired, Ejection, MAX_WEIGHT, Origin, Outcome};
pub use backends::{Backends, ChangeError, Observed};
pub use eligibility::{Ask, LeftOut, Refusal};
pub use health::{Health, HealthMachine, Thresholds};
pub use in_flight::InFlight;
pub use policy::rendezvous::hash;
pub use queue::{Class, Place, Popped, Queue, Refused};
pub use recorder::{Candidate, PickRecord, RECORDED_CANDIDATES, Reason, Standing};
pub use settings::{Panic, Policy, Settings, SlowStart};
