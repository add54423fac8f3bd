//! Token streams: very many very small DATA frames, and a reader that is slow.
//!
//! h2 takes many small frames that nobody has read for a flood, and closes the connection with all its calls.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures::future::join_all;
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Barrier, Semaphore},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{
    backend::{BEGIN, Backend, OK},
    wire::{END_STREAM, Frame},
};
use crate::{
    events::LIMIT,
    gateway::{at_rest, gateway},
};

const FRAMES: usize = 10_000;
/// A gRPC message of fifteen bytes.
const TOKEN: &[u8; 20] = b"\0\0\0\0\x0ffifteen letters";

/// What a peer lets the other send unread, in bytes. h2 takes small frames for a flood from half of `connection` on.
#[derive(Clone, Copy)]
struct Windows {
    stream: u32,
    connection: u32,
}

const LARGE: Windows = Windows { stream: 1 << 20, connection: 8 << 20 };

/// A connection to the gateway on which a test reads and sends frame by frame.
async fn connect(address: SocketAddr, windows: Windows) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(windows.stream).initial_connection_window_size(windows.connection);
    let (sender, connection) = builder.handshake(stream).await.unwrap();
    TaskTracker::new().spawn(connection);
    sender.ready().await.unwrap()
}

fn request() -> Request<()> {
    Request::post("http://gateway/grpc.testing.TestService/FullDuplexCall")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// Reads a stream to its end; how many bytes came.
async fn read(body: &mut RecvStream) -> Result<usize, h2::Error> {
    let mut size = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        size += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(size)
}

/// A backend that answers every call of a connection with tokens as fast as windows allow, and says when all are sent.
async fn speaking(calls: usize, frames: usize, sent: Arc<Semaphore>) -> Backend {
    Backend::start(&[], move |mut wire, seen| {
        let sent = Arc::clone(&sent);
        async move {
            let mut streams = Vec::new();
            while streams.len() < calls {
                streams.push(wire.request().await?);
                seen.call();
            }
            for stream in &streams {
                wire.send(&[Frame::headers(*stream, 0, BEGIN)]).await?;
            }
            for _ in 0..frames {
                for stream in &streams {
                    wire.flow(&Frame::data(*stream, TOKEN.as_slice())).await?;
                }
            }
            for stream in streams {
                wire.send(&[Frame::headers(stream, END_STREAM, OK)]).await?;
            }
            sent.add_permits(1);
            wire.drain().await
        }
    })
    .await
}

/// Calls on one connection of a client that reads nothing before the backend has sent all.
async fn slow_reader(calls: usize, frames: usize, windows: Windows) {
    let sent = Arc::new(Semaphore::new(0));
    let backend = speaking(calls, frames, Arc::clone(&sent)).await;
    let gateway = gateway(&[backend.address]).await;
    let client = connect(gateway.address, windows).await;
    let responses =
        join_all((0..calls).map(|_| client.clone().send_request(request(), true).unwrap().0)).await;
    let _all_sent = timeout(LIMIT, sent.acquire()).await.expect("the backend cannot send all").unwrap();
    for response in responses {
        let mut body = response.unwrap().into_body();
        assert_eq!(read(&mut body).await.unwrap(), frames * TOKEN.len());
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    }
    assert_eq!(backend.seen.connections(), 1);
    at_rest(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_slow_reader_of_small_frames_gets_them_all() {
    slow_reader(1, FRAMES, LARGE).await;
}

#[tokio::test]
async fn a_slow_reader_with_small_windows_is_not_flooded() {
    slow_reader(1, FRAMES / 2, Windows { stream: 65_535, connection: 65_535 }).await;
}

#[tokio::test]
async fn slow_streams_of_one_reader_do_not_flood_it() {
    slow_reader(4, FRAMES, LARGE).await;
}

/// The reader's windows for each stream are small, so what it does not read stays with the gateway.
#[tokio::test]
async fn slow_streams_of_one_backend_do_not_flood_the_gateway() {
    slow_reader(60, 3200, Windows { stream: 1024, connection: 64 << 20 }).await;
}

/// A backend on h2 that reads nothing before the client has sent all, then answers with how many bytes came.
async fn listening(windows: Windows, all_sent: Arc<Barrier>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    TaskTracker::new().spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(windows.stream).initial_connection_window_size(windows.connection);
        let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
        while let Some(accepted) = connection.accept().await {
            let Ok((request, mut respond)) = accepted else { break };
            let all_sent = Arc::clone(&all_sent);
            TaskTracker::new().spawn(async move {
                all_sent.wait().await;
                let size = read(&mut request.into_body()).await.unwrap();
                let begin = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                let mut answer = respond.send_response(begin, false).unwrap();
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                trailers.insert("x-size", size.into());
                answer.send_trailers(trailers).unwrap();
            });
        }
    });
    address
}

/// Sends all tokens as windows allow, each as a frame of its own.
async fn send_tokens(body: &mut h2::SendStream<Bytes>) -> Result<(), h2::Error> {
    for _ in 0..FRAMES {
        body.reserve_capacity(TOKEN.len());
        while body.capacity() < TOKEN.len() {
            let more = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
            more.expect("the stream is open")?;
        }
        body.send_data(Bytes::from_static(TOKEN), false)?;
    }
    body.send_data(Bytes::new(), true)
}

/// A call whose backend reads nothing before the client has sent all.
async fn slow_backend(windows: Windows) {
    let all_sent = Arc::new(Barrier::new(2));
    let backend = listening(windows, Arc::clone(&all_sent)).await;
    let gateway = gateway(&[backend]).await;
    let mut client = connect(gateway.address, LARGE).await;
    let (response, mut body) = client.send_request(request(), false).unwrap();
    send_tokens(&mut body).await.unwrap();
    timeout(LIMIT, all_sent.wait()).await.expect("the backend has no call any more");
    let mut body = response.await.unwrap().into_body();
    assert_eq!(read(&mut body).await.unwrap(), 0);
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["x-size"], (FRAMES * TOKEN.len()).to_string().as_str());
    at_rest(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_slow_backend_of_small_frames_gets_them_all() {
    slow_backend(LARGE).await;
}

#[tokio::test]
async fn a_slow_backend_with_small_windows_is_not_flooded() {
    slow_backend(Windows { stream: 65_535, connection: 65_535 }).await;
}
