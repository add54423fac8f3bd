//! Where a service is: on sockets of this process, or at the addresses of its replicas; all taken before anything starts.

use std::net::SocketAddr;

use weft_runtime::{BindError, Config, Listeners};

use super::{ports::Reserved, replicas::Place};

/// The addresses of one service.
#[derive(Debug)]
pub(super) enum Site {
    /// It runs in this process.
    Here(Listeners),
    /// Each of its replicas is a process.
    Apart(Vec<Place>),
}

impl Site {
    /// Binds what is configured; for replicas, free ports of the same host.
    pub(super) async fn take<C: Config>(config: &C, replicas: Option<u16>) -> Result<Self, BindError> {
        let Some(count) = replicas else { return Listeners::bind(config).await.map(Self::Here) };
        let address = config.address().unwrap_or_default();
        let place = |_| {
            Ok(Place {
                address: reserve("address", address)?,
                admin: reserve("admin.address", &config.admin().address)?,
            })
        };
        (0..count).map(place).collect::<Result<_, _>>().map(Self::Apart)
    }

    /// Where it can be called.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Here(listeners) => listeners.address().into_iter().collect(),
            Self::Apart(places) => places.iter().map(|place| place.address.address).collect(),
        }
    }
}

fn reserve(key: &str, address: &str) -> Result<Reserved, BindError> {
    let error = |source| BindError { key: key.to_owned(), address: address.to_owned(), source };
    Reserved::beside(address).map_err(error)
}
