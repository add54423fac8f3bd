//! Which HTTP a connection speaks, seen before a byte of it is taken.
//!
//! hyper can find out by itself, but a connection that is told to end before it has is dropped: a client that had just
//! connected would see a reset, whatever it had sent already.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use weft_mesh::tls::{ServerTls, Stream};

use crate::Scope;

/// How long a client may take to send its first bytes.
const FIRST_BYTES: Duration = Duration::from_secs(30);
/// How long it may take once draining has begun: what it sends first is on its way by then.
const FIRST_BYTES_DRAINING: Duration = Duration::from_millis(500);
/// The same where TLS has to be agreed on first, which takes a few round trips.
const HANDSHAKE_DRAINING: Duration = Duration::from_secs(2);
/// How soon a preface that came in crumbs is looked at again.
const CRUMBS: Duration = Duration::from_millis(5);
/// How HTTP/2 begins (RFC 9113 §3.4). No other method begins so.
const PREFACE: &[u8] = b"PRI";

/// The versions that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// Secures a connection, where that is asked for, and finds out which version it speaks: over TLS both sides agree on
/// one. `None` when it is to be closed.
pub(super) async fn agree(
    stream: TcpStream,
    tls: Option<Arc<ServerTls>>,
    peer: SocketAddr,
    scope: &Scope,
) -> Option<(Stream, Version)> {
    let Some(tls) = tls else {
        let version = read(&stream, scope).await?;
        return Some((stream.into(), version));
    };
    let late = async {
        scope.draining.cancelled().await;
        sleep(HANDSHAKE_DRAINING).await;
    };
    // Only what a client has said something on is told to end: one that has just connected would meet a closed door.
    let secured = async {
        let mut stream = tls.secure(stream).await?;
        let there = timeout(FIRST_BYTES, stream.has_bytes()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok::<_, io::Error>(there.then_some(stream))
    };
    let agreed = tokio::select! {
        biased;
        () = scope.stopping.cancelled() => return None,
        agreed = secured => agreed,
        () = late => return None,
    };
    let stream = agreed.inspect_err(|error| tracing::debug!(%peer, %error, "no TLS")).ok()??;
    let http2 = stream.agreed_on_http2().unwrap_or(false);
    Some((stream, if http2 { Version::Http2 } else { Version::Http1 }))
}

/// Waits for the first bytes. `None` when there are none in time: the connection is to be closed.
async fn read(stream: &TcpStream, scope: &Scope) -> Option<Version> {
    let late = async {
        scope.draining.cancelled().await;
        sleep(FIRST_BYTES_DRAINING).await;
    };
    tokio::select! {
        biased;
        () = scope.stopping.cancelled() => None,
        version = timeout(FIRST_BYTES, first(stream)) => version.ok()?.ok()?,
        () = late => None,
    }
}

async fn first(stream: &TcpStream) -> io::Result<Option<Version>> {
    let mut bytes = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut bytes).await?;
        match verdict(bytes.get(..length).unwrap_or_default()) {
            Verdict::Closed => return Ok(None),
            Verdict::Is(version) => return Ok(Some(version)),
            Verdict::Unclear => sleep(CRUMBS).await,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Closed,
    Is(Version),
    Unclear,
}

fn verdict(bytes: &[u8]) -> Verdict {
    match bytes {
        [] => Verdict::Closed,
        bytes if bytes == PREFACE => Verdict::Is(Version::Http2),
        bytes if PREFACE.starts_with(bytes) => Verdict::Unclear,
        _ => Verdict::Is(Version::Http1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_bytes_tell() {
        assert_eq!(verdict(b"PRI"), Verdict::Is(Version::Http2));
        for other in [&b"GET"[..], b"POS", b"PUT", b"PRO", b"G"] {
            assert_eq!(verdict(other), Verdict::Is(Version::Http1));
        }
        assert_eq!(verdict(b"PR"), Verdict::Unclear);
        assert_eq!(verdict(b""), Verdict::Closed);
    }
}
