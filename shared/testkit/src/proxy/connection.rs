//! One connection through the proxy.
use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::Weather;

const PIECE_BYTES: usize = 16 * 1024;

/// Carries bytes both ways until both sides are done, one fails or `end` fires; then both see a reset, not an orderly end.
pub(super) async fn forward(
    mut client: TcpStream,
    upstream: SocketAddr,
    weather: watch::Receiver<Weather>,
    end: CancellationToken,
) {
    let carried = end.run_until_cancelled(carry(&mut client, upstream, weather)).await;
    if !matches!(carried, Some(Ok(()))) {
        // An abrupt end is what is wanted here; that it cannot be had on a closed socket is no matter.
        let _ = client.set_zero_linger();
    }
}

async fn carry(
    client: &mut TcpStream,
    upstream: SocketAddr,
    weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let there = copy(from_client, to_server, weather.clone());
    let back = copy(from_server, to_client, weather);
    tokio::try_join!(there, back).map(drop)
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = from.read(&mut piece).await?;
        // The proxy itself is gone when nobody can change the weather any more.
        let now = *weather.wait_for(|weather| !weather.stalled).await.map_err(io::Error::other)?;
        tokio::time::sleep(now.latency).await;
        let Some(bytes @ [_, ..]) = piece.get(..length) else { return to.shutdown().await };
        to.write_all(bytes).await?;
    }
}
