//! What the gateway and the services do alike when they talk to each other.
//!
//! Role: errors and their one mapping to statuses ([`error`]), the context of a call ([`context`]), trace propagation
//! ([`trace`]), identities that can be believed ([`identity`]), and balanced calls: [`Peer`] says where a service is, [`discovery`] finds its replicas, [`probe`]
//! watches their health, [`upstream`] connects, fails over and repeats, [`Channel`] is the typed clients' transport.
//!
//! Non-goals: deciding. Which replica gets a call, how an outcome counts, whether a call is sent again and when a backend
//! is healthy is `weft-balance`'s.
//!
//! Invariants: every call that leaves through a [`Channel`] has a deadline; a call that may have been executed is
//! repeated only if its contract says that this is safe; every task is spawned on the caller's `TaskTracker`.

#![forbid(unsafe_code)]

mod body;
pub mod channel;
pub mod context;
pub mod discovery;
pub mod duration;
pub mod error;
pub mod identity;
mod lease;
mod link;
pub mod load_report;
mod merge;
pub mod methods;
pub mod metrics;
mod peer;
pub mod pool;
pub mod probe;
mod replay;
pub mod terms;
pub mod timeout;
pub mod tls;
pub mod trace;
pub mod upstream;

pub use body::{BoxError, Tracked, poll_full_frame};
pub use channel::Channel;
pub use merge::Merged;
pub use peer::Peer;
pub use replay::{Keeper, Replay};
