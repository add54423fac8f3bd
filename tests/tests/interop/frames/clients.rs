//! Clients that misbehave: each gets a clear answer, and others are served on.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use weft_runtime::Running;

use super::{
    backend::{Backend, EMPTY},
    call, client,
    wire::{
        CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PROTOCOL_ERROR,
        RST_STREAM, SETTINGS, STREAM_CLOSED, Wire, block,
    },
};
use crate::{
    events::LIMIT,
    gateway::{at_rest, gateway},
};

/// `:status: 431` as HPACK has it: a name of the static table and a Huffman-coded value.
const STATUS_431: &[u8] = &[0x48, 0x83, 0x69, 0x90, 0xff];

const REQUEST: &[(&str, &str)] = &[
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "gateway"),
    (":path", "/grpc.testing.TestService/EmptyCall"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
];

/// A gateway before a good backend, and what a misbehaving client does to it; a client that behaves is served before,
/// while and after, on one connection.
async fn beside<F>(misbehave: impl FnOnce(SocketAddr) -> F)
where
    F: Future<Output = ()>,
{
    let backend = Backend::good().await;
    let gateway: Running = gateway(&[backend.address]).await;
    let client = client(gateway.address).await;
    call(&client).await.unwrap();
    let others = async {
        for _ in 0..20 {
            call(&client).await.unwrap();
        }
    };
    let misbehaving = timeout(LIMIT, misbehave(gateway.address));
    let (ended, ()) = tokio::join!(misbehaving, others);
    ended.expect("the misbehaving client was left without an answer");
    call(&client).await.unwrap();
    at_rest(&gateway).await;
    gateway.stop().await;
}

/// A whole call on a raw connection: its stream, once the response has ended.
async fn whole_call(wire: &mut Wire, stream: u32, request: &[(&str, &str)]) -> Vec<Frame> {
    let frames = [Frame::headers(stream, 0, request), Frame::new(DATA, END_STREAM, stream, EMPTY)];
    wire.send(&frames).await.unwrap();
    let mut response = Vec::new();
    loop {
        let frame = wire.read().await.unwrap();
        if frame.stream == stream && matches!(frame.kind, DATA | HEADERS | RST_STREAM) {
            let last = frame.has(END_STREAM) || frame.kind == RST_STREAM;
            response.push(frame);
            if last {
                return response;
            }
        }
    }
}

/// Headers, a message, trailers. What the headers say is compressed; the backend's message came through.
fn assert_success(response: &[Frame]) {
    let [headers, message, trailers] = response else { panic!("{response:?}") };
    assert_eq!((headers.kind, message.kind, trailers.kind), (HEADERS, DATA, HEADERS), "{response:?}");
    assert_eq!(message.payload, EMPTY);
}

#[tokio::test]
async fn a_garbage_preface_is_refused() {
    beside(|address| async move {
        let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
        for garbage in [tls.as_slice(), &[0; 64]] {
            let answer = answer_to(address, garbage).await;
            assert!(answer.starts_with(b"HTTP/1.1 400 Bad Request\r\n"), "{answer:?}");
        }
        // What begins as HTTP/2 does is answered so: with SETTINGS, and the end.
        let answer = answer_to(address, b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").await;
        assert!(answer.len() < 100 && answer.get(3) == Some(&SETTINGS), "{answer:?}");
    })
    .await;
}

/// All that comes until the connection is closed.
async fn answer_to(address: SocketAddr, garbage: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(garbage).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end as well: there were bytes that nobody read.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn a_header_list_over_the_limit_ends_its_call_alone() {
    beside(|address| async move {
        let mut wire = Wire::connect(address).await;
        let large = "x".repeat(10_000);
        let mut headers = REQUEST.to_vec();
        headers.extend([("x-large", large.as_str()); 10]);
        let block = block(&headers);
        let mut pieces = block.chunks(16_000);
        let mut frames = vec![Frame::new(HEADERS, END_STREAM, 1, pieces.next().unwrap().to_vec())];
        frames.extend(pieces.map(|piece| Frame::new(CONTINUATION, 0, 1, piece.to_vec())));
        frames.last_mut().unwrap().flags |= END_HEADERS;
        wire.send(&frames).await.unwrap();
        let answer = wire.until(HEADERS).await.unwrap();
        assert_eq!((answer.stream, &answer.payload[..]), (1, STATUS_431), "{answer:?}");
        assert!(answer.has(END_STREAM));
        assert_success(&whole_call(&mut wire, 3, REQUEST).await);
    })
    .await;
}

#[tokio::test]
async fn a_stream_id_used_again_ends_the_connection() {
    beside(|address| async move {
        let mut wire = Wire::connect(address).await;
        whole_call(&mut wire, 5, REQUEST).await;
        wire.send(&[Frame::headers(3, END_STREAM, REQUEST)]).await.unwrap();
        let frame = wire.until(GOAWAY).await.unwrap();
        assert!([PROTOCOL_ERROR, STREAM_CLOSED].contains(&frame.code()), "{frame:?}");
    })
    .await;
}

#[tokio::test]
async fn data_on_a_closed_stream_is_an_error_of_that_stream() {
    beside(|address| async move {
        let mut wire = Wire::connect(address).await;
        whole_call(&mut wire, 1, REQUEST).await;
        wire.send(&[Frame::data(1, EMPTY)]).await.unwrap();
        let frame = wire.until(RST_STREAM).await.unwrap();
        assert_eq!((frame.stream, frame.code()), (1, STREAM_CLOSED), "{frame:?}");
        assert_success(&whole_call(&mut wire, 3, REQUEST).await);
    })
    .await;
}

#[tokio::test]
async fn a_call_without_te_trailers_is_served() {
    beside(|address| async move {
        let mut wire = Wire::connect(address).await;
        let request: Vec<_> = REQUEST.iter().copied().filter(|(name, _)| *name != "te").collect();
        assert_success(&whole_call(&mut wire, 1, &request).await);
    })
    .await;
}

/// A client that keeps its side of a call open must not keep the call open at the backend.
#[tokio::test]
async fn at_the_deadline_of_an_unfinished_request_the_backend_is_told_too() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let backend = Backend::start(&[], move |mut wire, _| {
        let told = told.clone();
        async move {
            let request = wire.until(HEADERS).await?;
            let reset = wire.until(RST_STREAM).await?;
            told.send((request.stream == reset.stream, reset.code())).unwrap();
            wire.drain().await
        }
    })
    .await;
    let gateway = gateway(&[backend.address]).await;
    let mut wire = Wire::connect(gateway.address).await;
    let request = [REQUEST, &[("grpc-timeout", "200m")]].concat();
    wire.send(&[Frame::headers(1, 0, &request), Frame::data(1, EMPTY)]).await.unwrap();
    let answer = wire.until(HEADERS).await.unwrap();
    assert!(answer.has(END_STREAM), "{answer:?}");
    let reset = timeout(LIMIT, heard.recv()).await.expect("the backend is not told").unwrap();
    assert_eq!(reset, (true, CANCEL));
    drop(wire);
    at_rest(&gateway).await;
    gateway.stop().await;
}
