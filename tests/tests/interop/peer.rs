//! Independent implementations of gRPC, each as a server and as a client that runs all cases.

mod cases;
mod client;
mod echo;
#[cfg(feature = "real-backends")]
pub(crate) mod foreign;
mod server;

use std::net::SocketAddr;

use crate::events::Events;

/// What became of each case, in the order they ran.
pub(crate) type Results = Vec<(String, Result<(), String>)>;

/// Something that ends when it is dropped.
pub(crate) type Guard = Box<dyn Send>;

/// An implementation of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// tonic.
    Rust,
    /// `grpcio`.
    #[cfg(feature = "real-backends")]
    Python,
    /// `@grpc/grpc-js`.
    #[cfg(feature = "real-backends")]
    Node,
}

impl Peer {
    /// Starts a server that tells of its calls as replica `replica`, until the guard is dropped.
    pub(crate) async fn serve(self, replica: usize, events: &Events) -> (SocketAddr, Guard) {
        match self {
            Self::Rust => server::serve(replica, events).await,
            #[cfg(feature = "real-backends")]
            Self::Python | Self::Node => foreign::serve(self, replica, events).await,
        }
    }

    /// Runs all cases against an address behind which servers of the kind `server` are.
    pub(crate) async fn drive(self, address: SocketAddr, server: Self, events: &Events) -> Results {
        match self {
            Self::Rust => client::drive(address, server, events).await,
            #[cfg(feature = "real-backends")]
            Self::Python | Self::Node => foreign::drive(self, address, events).await,
        }
    }

    /// Whether its servers compress responses when asked to.
    pub(crate) fn compresses(self) -> bool {
        #[cfg(feature = "real-backends")]
        if self == Self::Node {
            return false;
        }
        true
    }
}
