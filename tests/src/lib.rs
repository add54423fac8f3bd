//! What system tests share: the contract of gRPC's interoperability tests, and a backend that speaks it.
//!
//! The tests themselves, tidy checks and benchmarks live beside it.
#![forbid(unsafe_code)]

pub mod backend;
pub mod contract;
