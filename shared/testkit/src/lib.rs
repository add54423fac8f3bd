//! For tests only: private servers, a TCP proxy that misbehaves on command, and [`eventually`].
//!
//! [`Redis`], [`Postgres`], [`RabbitMq`] and [`S3`] each start a real server of their own on a free port with a data
//! directory of its own. `stop` is `kill -9`, `restart` brings it back on the same port and data, `pause` and `resume`
//! freeze and thaw it. A server ends when its value is dropped and also when the test process is killed: a watchdog
//! holds the other end of a pipe that closes either way.
//!
//! ```no_run
//! # async fn example() -> weft_testkit::Result<()> {
//! let redis = weft_testkit::Redis::start().await?;
//! println!("{}", redis.url());
//! redis.stop().await?;
//! redis.restart().await?;
//! // Slow to start, so shared by every test of the run; each test takes a database of its own.
//! let url = weft_testkit::Postgres::shared().await?.database().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`DnsServer`] is a stub in the test's own process: it answers what it was told, with the TTL it was told, or fails.
//!
//! [`Authority`] issues certificates, [`TokenIssuer`] tokens.
//!
//! [`mod@bench`] has the backends and the load for a comparison of load balancers.
//!
//! A server that cannot be had is an error that names what is missing and how to install it, never a skipped test.
#![forbid(unsafe_code)]

mod authority;
pub mod bench;
mod dns;
mod environment;
mod error;
mod eventually;
mod ledger;
mod port;
mod postgres;
mod process;
mod proxy;
mod rabbitmq;
mod redis;
mod s3;
mod server;
mod servers;
mod shared;
mod token_issuer;
mod watchdog;

pub use authority::{Authority, Issued};
pub use dns::{DnsFailure, DnsServer};
pub use environment::number;
pub use error::{Error, Result};
pub use eventually::{eventually, eventually_ok};
pub use ledger::record as record_server;
pub use port::free_port;
pub use postgres::Postgres;
pub use process::hermetic;
pub use proxy::FaultProxy;
pub use rabbitmq::RabbitMq;
pub use redis::Redis;
pub use s3::{S3, serve as serve_s3};
pub use server::Server;
pub use servers::Servers;
pub use token_issuer::TokenIssuer;
