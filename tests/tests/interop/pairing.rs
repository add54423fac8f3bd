//! Every implementation as client of every other, with two replicas of the server behind the gateway.
//!
//! What each case does is in `tests/interop/README.md`. A client judges what it sees; what servers see is judged here.

use crate::{
    events::Events,
    gateway::{at_rest, gateway},
    peer::Peer,
};

/// All cases, in the order they run.
const CASES: [&str; 21] = [
    "empty_unary",
    "large_unary",
    "client_compressed_unary",
    "server_compressed_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "half_close",
    "messages_over_4_mib",
    "custom_metadata",
    "metadata_of_10k",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
    "deadline_is_passed_on",
    "cancel_after_begin",
    "cancel_while_waiting",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
];

/// Cases whose request stream ends while the server looks on.
const HALF_CLOSED: [&str; 4] = ["client_streaming", "ping_pong", "empty_stream", "half_close"];

/// Cases that end while the server is about to answer. One that waits for requests, as in `cancel_after_begin`, may be
/// told of a half-close instead: Node sends END_STREAM before RST_STREAM, and tonic's server takes the latter for it.
const CANCELLED: [&str; 3] =
    ["cancel_while_waiting", "cancel_after_first_response", "timeout_on_sleeping_server"];

async fn pair(client: Peer, server: Peer) {
    let events = Events::default();
    let (first, _first) = server.serve(0, &events).await;
    let (second, _second) = server.serve(1, &events).await;
    let gateway = gateway(&[first, second]).await;
    let results = client.drive(gateway.address, server, &events).await;

    let failures: Vec<String> = results
        .iter()
        .filter_map(|(case, outcome)| Some(format!("{case}: {}", outcome.as_ref().err()?)))
        .collect();
    let pairing = format!("{client:?} client, {server:?} servers");
    assert!(failures.is_empty(), "{pairing}:\n  {}", failures.join("\n  "));
    let ran: Vec<&str> = results.iter().map(|(case, _)| case.as_str()).collect();
    assert_eq!(ran, CASES, "{pairing}");

    for case in HALF_CLOSED {
        events.until(&format!("half-closed {case}")).await;
    }
    for case in CANCELLED {
        events.until(&format!("cancelled {case}")).await;
    }
    // grpcio rounds what it sends up, by less than a hundredth.
    let left = events.deadline("deadline_is_passed_on");
    assert!(
        left.is_some_and(|left| (1_000..20_200).contains(&left)),
        "{pairing}: {left:?} ms are left of 20 s"
    );
    assert!(events.calls(0) > 0 && events.calls(1) > 0, "{pairing}: one replica got no call");
    at_rest(&gateway).await;
    gateway.stop().await;
}

/// One test per pairing: `client_server`.
macro_rules! pairings {
    ($($name:ident: $client:ident -> $server:ident;)*) => {
        $(#[tokio::test]
        async fn $name() {
            pair(Peer::$client, Peer::$server).await;
        })*
    };
}

pairings! {
    rust_rust: Rust -> Rust;
}

#[cfg(feature = "real-backends")]
pairings! {
    rust_python: Rust -> Python;
    rust_node: Rust -> Node;
    python_rust: Python -> Rust;
    python_python: Python -> Python;
    python_node: Python -> Node;
    node_rust: Node -> Rust;
    node_python: Node -> Python;
    node_node: Node -> Node;
}
