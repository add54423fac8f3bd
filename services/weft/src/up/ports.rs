//! Addresses that stay ours while the process that listens on them is down.

use std::{io, net::SocketAddr};

use tokio::net::TcpSocket;

/// A free address, kept for a replica over all its lives.
///
/// A socket is bound to it and never listens: connections are refused while the replica is down, so that its callers
/// notice at once, and nobody else is given the port. `SO_REUSEADDR` on both sockets lets the replica bind it too, which
/// holds on Linux; elsewhere the port is only known to have been free.
#[derive(Debug)]
pub(super) struct Reserved {
    pub(super) address: SocketAddr,
    _socket: Option<TcpSocket>,
}

impl Reserved {
    /// A free port on the host of an address.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub(super) fn beside(address: &str) -> io::Result<Self> {
        let mut wanted: SocketAddr = address.parse().map_err(io::Error::other)?;
        wanted.set_port(0);
        let socket = if wanted.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(wanted)?;
        let address = socket.local_addr()?;
        Ok(Self { address, _socket: Some(socket).filter(|_| cfg!(target_os = "linux")) })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_reserved_port_refuses_until_its_owner_listens_again_and_again() {
        let reserved = Reserved::beside("127.0.0.1:7102").unwrap();
        assert_ne!(reserved.address.port(), 7102);
        for _ in 0..3 {
            let refused = TcpStream::connect(reserved.address).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let listener = TcpListener::bind(reserved.address).await.unwrap();
            let (connected, accepted) = tokio::join!(TcpStream::connect(reserved.address), listener.accept());
            assert!(connected.is_ok() && accepted.is_ok());
        }
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_bound_is_an_error() {
        // Documentation's own network: no interface of this machine is in it.
        assert!(Reserved::beside("192.0.2.1:1").is_err());
    }
}
