//! The client against tiny servers that answer by script, break off and come back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests, helpers included

mod assets;
mod documents;
mod server;
mod watch;
