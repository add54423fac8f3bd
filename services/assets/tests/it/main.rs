//! The assets service, its storage backends, and its HTTP face, from outside.

// A test ends where something is not as it must be; helpers of tests are tests to the reader, but not to the lint.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod conformance;
mod crash;
mod delivery;
mod grpc;
mod origins;
#[cfg(feature = "real-backends")]
mod pace;
mod rig;
#[cfg(feature = "real-backends")]
mod store_away;
mod upstream;
