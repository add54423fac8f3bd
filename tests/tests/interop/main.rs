//! gRPC through the gateway: between independent implementations of it, and with peers that misbehave frame by frame.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "a test server ends calls with the statuses it is asked for")]

mod events;
mod frames;
mod gateway;
mod openai;
mod pairing;
mod peer;
mod web;

use weft_tests::contract;
