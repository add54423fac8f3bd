//! The program itself: `weft up` as a process of its own, and the commands against it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests, helpers included

mod ask;
mod asset;
mod cert;
mod gateway;
mod http;
mod ingest;
mod program;
mod refusals;
mod replicas;
mod status;
mod stop;
