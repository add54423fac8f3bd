//! Free ports that stay ours while a server is down.
use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    ops::Range,
};

/// Below the range that Linux gives to outgoing connections (from 32768), so that no connection takes the port of a
/// server between its stop and its restart.
const CANDIDATES: Range<u16> = 15_000..32_000;
const TRIES: u32 = 200;

/// A port on 127.0.0.1 that nothing listens on at this moment.
///
/// # Errors
/// When none of many random candidates could be bound.
pub fn free_port() -> io::Result<u16> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let port = fastrand::u16(CANDIDATES);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_bound() {
        let port = free_port().unwrap();
        assert!(CANDIDATES.contains(&port));
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}
