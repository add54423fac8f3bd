//! Listening sockets that a service manager passes to the process (`sd_listen_fds(3)`: systemd, s6, systemfd).
//!
//! The manager keeps such a socket open, so connections wait in its queue while one process ends and the next begins,
//! and two processes can take from the one queue while one replaces the other: nobody is refused and nothing is reset.
//! SO_REUSEPORT does not give that: each process has a queue of its own, which the system resets with its listener.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::fd::{FromRawFd, OwnedFd},
    sync::{LazyLock, Mutex, PoisonError},
};

use socket2::SockRef;

use crate::config::passed_sockets;

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

/// Those that nobody has taken yet.
static PASSED: LazyLock<Mutex<Vec<TcpListener>>> =
    LazyLock::new(|| Mutex::new((FIRST..FIRST.saturating_add(passed_sockets())).filter_map(adopt).collect()));

/// Takes the passed socket that listens on an address, once.
pub(super) fn take(address: &str) -> Option<TcpListener> {
    let address: SocketAddr = address.parse().ok()?;
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let index =
        passed.iter().position(|listener| listener.local_addr().is_ok_and(|local| local == address))?;
    Some(passed.swap_remove(index))
}

/// Takes over a descriptor, if it is a listening TCP socket.
fn adopt(descriptor: i32) -> Option<TcpListener> {
    let link = fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
    if !link.as_os_str().as_encoded_bytes().starts_with(b"socket:") {
        tracing::warn!(descriptor, "a passed descriptor is no socket");
        return None;
    }
    // SAFETY: `LISTEN_PID` says that descriptors from 3 on were open when this process began and are for it to own;
    // nothing else in it knows of them, since whatever it opens itself gets other numbers. This one is open, as was just
    // seen, and adopted once: the list is made once.
    #[allow(unsafe_code)]
    let listener = TcpListener::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    if !SockRef::from(&listener).is_listener().unwrap_or(false) {
        tracing::warn!(descriptor, "a passed socket does not listen");
        return None;
    }
    listener.set_nonblocking(true).ok()?;
    Some(listener)
}
