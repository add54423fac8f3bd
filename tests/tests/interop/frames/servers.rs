//! Backends that misbehave, after the negative HTTP/2 cases of gRPC's interoperability tests.

use std::sync::atomic::Ordering;

use futures::future::join_all;
use prost::Message as _;
use tokio::{sync::mpsc, time::timeout};
use tonic::Code;
use weft_testkit::eventually;

use super::{
    backend::{BEGIN, Backend, EMPTY, OK, answer},
    call, client,
    wire::{
        ACK, CANCEL, END_STREAM, Frame, HEADERS, INTERNAL_ERROR, NO_ERROR, PING, RST_STREAM, WINDOW_UPDATE,
    },
};
use crate::{
    contract::{Payload, SimpleRequest, SimpleResponse},
    events::LIMIT,
    gateway::{at_rest, gateway},
};

const MAX_CONCURRENT_STREAMS: u16 = 3;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test]
async fn goaway_after_an_answer_moves_the_next_call_to_a_new_connection() {
    let backend = Backend::start(&[], |mut wire, seen| async move {
        let stream = wire.request().await?;
        seen.call();
        wire.send(&answer(stream)).await?;
        wire.send(&[Frame::goaway(stream, NO_ERROR)]).await?;
        wire.drain().await
    })
    .await;
    let gateway = gateway(&[backend.address]).await;
    let client = client(gateway.address).await;
    for sent in 1..=20 {
        call(&client).await.unwrap();
        assert_eq!(backend.seen.calls(), sent);
    }
    assert_eq!(backend.seen.connections(), 20);
    gateway.stop().await;
}

/// As when the only replica, or a gateway, is restarted: the next connection reaches the one that took its place.
#[tokio::test]
async fn a_call_above_the_last_id_goes_to_the_only_backend_again() {
    let backend = Backend::start(&[], |mut wire, seen| async move {
        let stream = wire.request().await?;
        if seen.call() == 1 {
            wire.send(&[Frame::goaway(0, NO_ERROR)]).await?;
        } else {
            wire.send(&answer(stream)).await?;
        }
        wire.drain().await
    })
    .await;
    let gateway = gateway(&[backend.address]).await;
    call(&client(gateway.address).await).await.unwrap();
    assert_eq!((backend.seen.calls(), backend.seen.connections()), (2, 2));
    at_rest(&gateway).await;
    gateway.stop().await;
}

/// The first GOAWAY only warns; the second says which calls were taken. Those above it were not, and must succeed on
/// another backend; those below it must be answered where they are.
#[tokio::test]
async fn calls_above_the_last_id_of_a_goaway_go_to_another_backend() {
    const CALLS: usize = 32;
    const TAKEN: [u32; 2] = [1, 3];
    let leaving = Backend::limited(1, &[], |mut wire, seen| async move {
        let mut streams = Vec::new();
        while streams.len() < CALLS / 4 || !TAKEN.iter().all(|stream| streams.contains(stream)) {
            streams.push(wire.request().await?);
        }
        let warning = Frame::goaway(i32::MAX.cast_unsigned(), NO_ERROR);
        wire.send(&[warning, Frame::goaway(TAKEN[1], NO_ERROR)]).await?;
        for stream in TAKEN {
            seen.call();
            wire.send(&answer(stream)).await?;
        }
        wire.drain().await
    })
    .await;
    let staying = Backend::good().await;
    let gateway = gateway(&[leaving.address, staying.address]).await;
    let client = client(gateway.address).await;
    let outcomes = join_all((0..CALLS).map(|_| call(&client))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(leaving.seen.calls(), TAKEN.len(), "those it took");
    assert_eq!(staying.seen.calls(), CALLS - TAKEN.len(), "each of the others once");
    at_rest(&gateway).await;
    gateway.stop().await;
}

/// How a call ends that its backend resets after some frames of an answer. It is sent once.
async fn reset_after(frames: &'static [&'static str], code: u32) -> Code {
    let resetting = Backend::start(&[], move |mut wire, seen| async move {
        loop {
            let stream = wire.request().await?;
            seen.call();
            let mut sent = Vec::new();
            for part in frames {
                sent.push(match *part {
                    "headers" => Frame::headers(stream, 0, BEGIN),
                    "half" => Frame::data(stream, &EMPTY[..3]),
                    _ => Frame::data(stream, EMPTY),
                });
            }
            sent.push(Frame::reset(stream, code));
            wire.send(&sent).await?;
        }
    })
    .await;
    let gateway = gateway(&[resetting.address]).await;
    let client = client(gateway.address).await;
    let first = call(&client).await.unwrap_err().code();
    let second = call(&client).await.unwrap_err().code();
    assert_eq!(first, second);
    assert_eq!(resetting.seen.calls(), 2, "each was sent once");
    assert_eq!(resetting.seen.connections(), 1, "a reset ends a stream, not its connection");
    at_rest(&gateway).await;
    gateway.stop().await;
    first
}

#[tokio::test]
async fn rst_after_header_fails_the_call_once() {
    assert_eq!(reset_after(&["headers"], INTERNAL_ERROR).await, Code::Unavailable);
}

#[tokio::test]
async fn rst_during_data_fails_the_call_once() {
    assert_eq!(reset_after(&["headers", "half"], INTERNAL_ERROR).await, Code::Unavailable);
}

#[tokio::test]
async fn rst_after_data_fails_the_call_once() {
    assert_eq!(reset_after(&["headers", "whole"], INTERNAL_ERROR).await, Code::Unavailable);
}

#[tokio::test]
async fn rst_instead_of_an_answer_fails_the_call_once() {
    for code in [NO_ERROR, INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM] {
        assert_eq!(reset_after(&[], code).await, Code::Unavailable, "code {code}");
    }
}

/// After headers even this code does not say that nothing was done.
#[tokio::test]
async fn a_stream_refused_after_its_headers_is_not_sent_again() {
    assert_eq!(reset_after(&["headers"], REFUSED_STREAM).await, Code::Unavailable);
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_and_calls_go_on() {
    const PINGS: usize = 1_000;
    let backend = Backend::start(&[], |mut wire, seen| async move {
        loop {
            let stream = wire.request().await?;
            seen.call();
            let pings = (0..PINGS as u64).map(|n| Frame::new(PING, 0, 0, n.to_be_bytes().to_vec()));
            wire.send(&pings.collect::<Vec<_>>()).await?;
            let expected = wire.pongs + PINGS;
            while wire.pongs < expected {
                wire.read().await?;
            }
            seen.pongs.store(wire.pongs, Ordering::SeqCst);
            wire.send(&answer(stream)).await?;
        }
    })
    .await;
    let gateway = gateway(&[backend.address]).await;
    let client = client(gateway.address).await;
    for _ in 0..3 {
        call(&client).await.unwrap();
    }
    assert_eq!(backend.seen.pongs.load(Ordering::SeqCst), 3 * PINGS);
    assert_eq!(backend.seen.connections(), 1);
    gateway.stop().await;
}

/// One stream at a time: more are refused, as h2, grpc and nginx do.
async fn one_at_a_time() -> Backend {
    Backend::start(&[(MAX_CONCURRENT_STREAMS, 1)], |mut wire, seen| async move {
        let mut open = None;
        loop {
            let frame = wire.read().await?;
            if frame.kind == HEADERS && open.is_some() {
                wire.send(&[Frame::reset(frame.stream, REFUSED_STREAM)]).await?;
                continue;
            }
            if frame.kind == HEADERS {
                open = Some(frame.stream);
            }
            if open == Some(frame.stream) && frame.has(END_STREAM) {
                // Others on their way arrive before the answer to this.
                wire.send(&[Frame::new(PING, 0, 0, vec![0; 8])]).await?;
            }
            if let (PING, true, Some(stream)) = (frame.kind, frame.has(ACK), open) {
                seen.call();
                wire.send(&answer(stream)).await?;
                open = None;
            }
        }
    })
    .await
}

#[tokio::test]
async fn calls_over_max_streams_wait_and_none_fails() {
    let backend = one_at_a_time().await;
    let gateway = gateway(&[backend.address]).await;
    let client = client(gateway.address).await;
    call(&client).await.unwrap();
    let outcomes = join_all((0..50).map(|_| call(&client))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(backend.seen.calls(), 51);
    gateway.stop().await;
}

#[tokio::test]
async fn calls_over_max_streams_use_the_other_replica_too() {
    let backends = [one_at_a_time().await, one_at_a_time().await];
    let gateway = gateway(&backends.each_ref().map(|backend| backend.address)).await;
    let client = client(gateway.address).await;
    let outcomes = join_all((0..50).map(|_| call(&client))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let calls = backends.each_ref().map(|backend| backend.seen.calls());
    assert_eq!(calls[0] + calls[1], 50);
    assert!(calls.iter().all(|calls| *calls >= 10), "{calls:?}");
    gateway.stop().await;
}

/// A message in DATA frames of five bytes each. With padding they take more than a stream's window, all of which counts
/// (RFC 9113 §6.9.1), so the end comes only if padding is given back.
async fn message_in_small_frames(padding: Option<u8>) {
    const SIZE: usize = 25_000;
    let backend = Backend::start(&[], move |mut wire, seen| async move {
        let stream = wire.request().await?;
        seen.call();
        wire.send(&[Frame::headers(stream, 0, BEGIN)]).await?;
        for piece in simple_response(SIZE).chunks(5) {
            wire.flow(&match padding {
                Some(padding) => Frame::padded(stream, piece, padding),
                None => Frame::data(stream, piece.to_vec()),
            })
            .await?;
        }
        wire.send(&[Frame::headers(stream, END_STREAM, OK)]).await?;
        wire.drain().await
    })
    .await;
    let gateway = gateway(&[backend.address]).await;
    let client = client(gateway.address).await;
    let response = client.clone().unary_call(SimpleRequest::default()).await.unwrap();
    assert_eq!(response.into_inner().payload, Payload::zeros(SIZE));
    gateway.stop().await;
}

/// A `SimpleResponse` with so many zeros, as gRPC frames it.
fn simple_response(size: usize) -> Vec<u8> {
    let response = SimpleResponse { payload: Payload::zeros(size) };
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(response.encoded_len()).unwrap().to_be_bytes());
    response.encode(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn data_frame_padding() {
    message_in_small_frames(Some(255)).await;
}

#[tokio::test]
async fn no_data_frame_padding() {
    message_in_small_frames(None).await;
}

/// What a backend sees when its client goes away, before or after its headers: RST_STREAM with CANCEL, and no other sign.
async fn cancelled(headers_sent: bool) {
    let (told, mut heard) = mpsc::unbounded_channel();
    let backend = Backend::start(&[], move |mut wire, seen| {
        let told = told.clone();
        async move {
            let stream = wire.request().await?;
            if headers_sent {
                wire.send(&[Frame::headers(stream, 0, BEGIN)]).await?;
            }
            seen.call();
            loop {
                let frame = wire.read().await?;
                if frame.stream == stream && frame.kind != WINDOW_UPDATE {
                    told.send(frame).unwrap();
                }
            }
        }
    })
    .await;
    let gateway = gateway(&[backend.address]).await;
    let client = client(gateway.address).await;
    let begun = eventually(LIMIT, || async { backend.seen.calls() == 1 });
    tokio::select! {
        outcome = call(&client) => panic!("{outcome:?}"),
        () = begun => {}
    }
    let frame = timeout(LIMIT, heard.recv()).await.expect("the backend is not told").unwrap();
    assert_eq!((frame.kind, frame.code()), (RST_STREAM, CANCEL), "{frame:?}");
    at_rest(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_cancel_before_the_headers_reaches_the_backend_as_cancel() {
    cancelled(false).await;
}

#[tokio::test]
async fn a_cancel_after_the_headers_reaches_the_backend_as_cancel() {
    cancelled(true).await;
}
