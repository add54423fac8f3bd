//! The sockets of a service, passed by a service manager or bound before anything else starts.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::Config;

mod passed;

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("{key}: cannot listen on {address}: {}", reason(.source))]
pub struct BindError {
    /// The configuration key.
    pub key: String,
    /// The address under it.
    pub address: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another process".to_owned(),
        _ => error.to_string(),
    }
}

/// The bound sockets of a service.
#[derive(Debug)]
pub struct Listeners {
    /// For calls, in the order of [`Config::addresses`].
    pub public: Vec<TcpListener>,
    /// For probes, metrics and administration.
    pub admin: TcpListener,
}

impl Listeners {
    /// Binds every address of a configuration, or takes the socket that was passed for it.
    ///
    /// # Errors
    /// With the key and address of the first that cannot be bound.
    pub async fn bind<C: Config>(config: &C) -> Result<Self, BindError> {
        let mut public = Vec::new();
        for (key, address) in config.addresses() {
            public.push(bind(key, address).await?);
        }
        let admin = bind("admin.address".to_owned(), config.admin().address.clone()).await?;
        Ok(Self { public, admin })
    }

    /// The address of the first listener for calls.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.public.first().and_then(|listener| listener.local_addr().ok())
    }
}

async fn bind(key: String, address: String) -> Result<TcpListener, BindError> {
    let bound = match passed::take(&address) {
        Some(listener) => TcpListener::from_std(listener),
        None => TcpListener::bind(&address).await,
    };
    bound.map_err(|source| BindError { key, address, source })
}
