//! A socket that is closed without a reset.
//!
//! A server that closes a socket with bytes unread resets it, and the reset overtakes what it has said last: a client
//! whose next call crossed the GOAWAY would not learn that it was never looked at. So the socket is read on for a moment
//! after its connection has ended, until the client closes it too (RFC 9112 §9.6 says the same of HTTP/1.1).

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    runtime::Handle,
    time::{Sleep, sleep, timeout},
};

use weft_mesh::tls::Stream;

use crate::Scope;

/// How long it is read on.
const LINGER: Duration = Duration::from_millis(500);
/// How much of it, in bytes.
const MOST: u64 = 256 * 1024;

/// The socket. Dropped, it is closed in the background.
#[derive(Debug)]
pub(super) struct Lingering {
    /// Until it is dropped.
    stream: Option<Stream>,
    /// How many bytes a client still owes, and until when; hyper would wait for the preface of HTTP/2 for ever.
    owed: Option<(usize, Pin<Box<Sleep>>)>,
    scope: Scope,
}

impl Lingering {
    pub(super) fn new(stream: Stream, scope: &Scope) -> Self {
        Self { stream: Some(stream), owed: None, scope: scope.clone() }
    }

    /// Expects so many bytes within a time.
    pub(super) fn expecting(mut self, bytes: usize, within: Duration) -> Self {
        self.owed = Some((bytes, Box::pin(sleep(within))));
        self
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        // When everything stops, so does this.
        if let (Some(stream), Ok(_), false) =
            (self.stream.take(), Handle::try_current(), self.scope.stopping.is_cancelled())
        {
            let stopping = self.scope.stopping.clone();
            // Draining waits for it: the last GOAWAY of a process matters most.
            self.scope.work.spawn(async move {
                stopping.run_until_cancelled(timeout(LINGER, read_on(stream))).await;
            });
        }
    }
}

async fn read_on(mut stream: Stream) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(MOST), &mut tokio::io::sink()).await.map(drop)
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = self.stream()?.poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        let Some((owed, late)) = &mut self.owed else { return polled };
        *owed = owed.saturating_sub(read);
        if *owed == 0 {
            self.owed = None;
        } else if polled.is_pending() && late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}
