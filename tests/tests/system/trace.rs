//! One trace from the client's call through gateway, service, queue and worker, as an OTLP receiver sees it: every hop
//! is the child of the one before it.

mod receiver;

use std::collections::HashSet;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind::{self, Client, Consumer, Server};
use weft_runtime::{config::Telemetry, telemetry};
use weft_testkit::eventually;

use crate::process::{LIMIT, Mesh};
use receiver::{Received, Span, receive};

/// What the test's own process calls itself.
const CLIENT: &str = "client";

const POST: &str = "weft.database.v1.MessageService/PostMessage";
const GET_CHAT: &str = "weft.database.v1.ChatService/GetChat";
const PUBLISH: &str = "weft.queue.v1.QueueService/Publish";
const PROCESS: &str = "process chat_queue";

/// Spans from parent to child. The gateway serves a call and makes attempts at it, so a call of a client is two client
/// spans and two server spans; between services it is one and one.
type Hops = &'static [(SpanKind, &'static str)];

/// From the question to the worker.
const ASKED: Hops = &[
    (Client, POST),
    (Server, POST),
    (Client, POST),
    (Server, POST),
    (Client, PUBLISH),
    (Server, PUBLISH),
    (Consumer, PROCESS),
];
/// What the worker calls to answer it.
const CALLED: [&str; 3] = [
    "weft.database.v1.MessageService/ListMessages",
    "weft.database.v1.SearchService/SearchChunks",
    "weft.database.v1.MessageService/AppendReply",
];
/// A read that the cache cannot answer yet.
const MISSED: Hops = &[
    (Client, GET_CHAT),
    (Server, GET_CHAT),
    (Client, GET_CHAT),
    (Server, GET_CHAT),
    (Client, "weft.cache.v1.CacheService/Get"),
    (Server, "weft.cache.v1.CacheService/Get"),
];
/// What it has loaded goes into the cache.
const FILLED: Hops = &[
    (Client, GET_CHAT),
    (Server, GET_CHAT),
    (Client, GET_CHAT),
    (Server, GET_CHAT),
    (Client, "weft.cache.v1.CacheService/Fill"),
    (Server, "weft.cache.v1.CacheService/Fill"),
];

/// The spans of one trace.
struct Trace(Vec<Span>);

impl Trace {
    /// The trace that a call of the client began, if its root has come.
    fn begun_by(received: &Received, call: &str) -> Option<Self> {
        let mut spans = received.spans();
        let root = |span: &&Span| span.process == CLIENT && span.parent.is_empty() && span.name == call;
        let trace = spans.iter().find(root)?.trace.clone();
        spans.retain(|span| span.trace == trace);
        Some(Self(spans))
    }

    /// Whether the hops are there, each below the one before it, the first at the root.
    fn has(&self, hops: &[(SpanKind, &str)]) -> bool {
        self.has_below("", hops)
    }

    fn has_below(&self, parent: &str, hops: &[(SpanKind, &str)]) -> bool {
        let Some((&(kind, name), rest)) = hops.split_first() else { return true };
        let hop = |span: &&Span| span.parent == parent && span.kind == kind && span.name == name;
        self.0.iter().filter(hop).any(|span| self.has_below(&span.id, rest))
    }

    /// Whether every span but one has its parent here.
    fn is_whole(&self) -> bool {
        let ids: HashSet<_> = self.0.iter().map(|span| &span.id).collect();
        self.0.iter().filter(|span| !ids.contains(&span.parent)).count() == 1
    }

    /// The tree, for whoever has to find out what is missing.
    fn print(&self, parent: &str, depth: usize) {
        for span in self.0.iter().filter(|span| span.parent == parent) {
            eprintln!("{:depth$}{:?} {} ({})", "", span.kind, span.name, span.process);
            self.print(&span.id, depth + 2);
        }
    }
}

/// Waits until a call's trace is whole and has the hops.
async fn assert_hops(received: &Received, call: &str, wanted: &[Vec<(SpanKind, &str)>]) {
    let complete = |trace: &Trace| trace.is_whole() && wanted.iter().all(|hops| trace.has(hops));
    let arrived = || async { Trace::begun_by(received, call).as_ref().is_some_and(complete) };
    if tokio::time::timeout(LIMIT, eventually(LIMIT * 2, arrived)).await.is_err() {
        let trace = Trace::begun_by(received, call).expect("the client's own span");
        trace.print("", 0);
        panic!("the trace of {call} (above) is not whole, or lacks one of {wanted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_holds_a_question_from_the_client_to_the_worker() {
    let (receiver, received) = receive().await;
    let endpoint = format!("http://{}", receiver.address);
    let mesh = Mesh::start(&format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\n")).await;
    let own = Telemetry { otlp_endpoint: Some(endpoint), log: "off".into(), ..Telemetry::default() };
    let telemetry = telemetry::init(CLIENT, &own).unwrap();

    let client = mesh.client().await;
    let chat = client.chats().create("", "", "").await.unwrap();
    client.chats().get(&chat.id).await.unwrap();
    client.messages().post(&chat.id, "What is in the documents?", "").await.unwrap();
    telemetry.shutdown().await;

    let below = |call| [ASKED, &[(Client, call), (Server, call)]].concat();
    assert_hops(&received, POST, &CALLED.map(below)).await;
    assert_hops(&received, GET_CHAT, &[MISSED.to_vec(), FILLED.to_vec()]).await;
    receiver.stop().await;
}
