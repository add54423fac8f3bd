//! The API of OpenAI over many model servers: which pool serves the model that a call names, which models there are,
//! and what is measured of the answers.
//!
//! What a call says is read for its model alone and sent on as it came, byte for byte; answers pass as they come. Where
//! calls are sent, again or elsewhere, is decided as for all others.

mod asked;
mod body;
mod catalogue;
mod failure;
mod fetch;
mod key;
mod list;
mod load;
mod model;
mod observed;
mod servers;
mod tokens;

pub(crate) use asked::{Asked, Operation};
pub(crate) use body::{Unread, Whole, read};
pub(crate) use catalogue::Catalogue;
pub(crate) use failure::{Failure, Told, dress};
pub(crate) use key::{bearer, read_key};
pub(crate) use observed::{Observed, Watch};
pub(crate) use servers::{Server, Servers};

/// What may be held of all requests together, in bytes; so also the most that one may have.
pub(crate) const BUFFERED_LIMIT: u64 = crate::translate::TOTAL_LIMIT as u64;
/// The largest request in bytes where nothing else is said: a chat with a few pictures in it.
pub(crate) const REQUEST_LIMIT: u64 = 32 * 1024 * 1024;
