//! The typed client of the whole mesh, through the gateway.
//!
//! Role: one [`Client`] for everything behind one address, with a facade per noun: [`Documents`], [`Search`],
//! [`Chats`], [`Messages`], [`Jobs`], [`Assets`], [`Users`], [`Notifications`]; [`Admin`] is the gateway's own service on
//! its admin port. A service without a facade is called through its generated client over [`Client::transport`].
//!
//! Non-goals: balancing and retries of single calls are the channel's ([`weft_mesh::Channel`]); what this crate adds is
//! what spans calls: pages, uploads and downloads in bounded memory, job events over broken streams, patience.
//!
//! Invariants: every call has a deadline and the caller's identity; an event of a job is never yielded twice; nothing
//! is repeated whose contract does not say that it may be.
//!
//! ```no_run
//! # async fn ask() -> Result<(), weft_client::Error> {
//! use futures::TryStreamExt as _;
//! use weft_client::{Client, Event, Watch};
//!
//! let client = Client::connect("http://127.0.0.1:7080", "ada").await?;
//! let chat = client.chats().create("", "", "").await?;
//! let posted = client.messages().post(&chat.id, "When does the ferry leave?", "").await?;
//! let mut events = client.jobs().watch(&posted.job_id, Watch::default());
//! while let Some(event) = events.try_next().await? {
//!     if let Event::Output(output) = event.event {
//!         print!("{}", output.text);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod admin;
mod assets;
mod backoff;
mod chats;
mod client;
mod documents;
mod error;
mod jobs;
mod messages;
mod notifications;
mod pages;
mod retry;
mod search;
mod transport;
mod users;

pub use admin::{Admin, GatewayStats, Replica, ServiceStats};
pub use assets::{Assets, Download, Source, Upload, Uploaded};
pub use backoff::Backoff;
pub use chats::Chats;
pub use client::{Client, Options};
pub use documents::{Documents, PutDocument};
pub use error::{Error, Result};
pub use jobs::{DeadJobs, Event, JobEvent, JobEvents, Jobs, Watch};
pub use messages::{Messages, Posted};
pub use notifications::Notifications;
pub use retry::Patience;
pub use search::Search;
pub use transport::Transport;
pub use users::Users;
