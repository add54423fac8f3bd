//! One trace from the client's call through gateway, service, queue and worker, as an OTLP receiver sees it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status, async_trait};
use weft_mesh::Channel;
use weft_proto::database::v1::{
    CreateChatRequest, PostMessageRequest, chat_service_client::ChatServiceClient,
    message_service_client::MessageServiceClient,
};
use weft_runtime::{
    Assembly, Config, Listeners, Scope, Service,
    config::{Admin, Lifecycle, Problems, Telemetry},
    start,
};
use weft_testkit::eventually;

use crate::process::{LIMIT, Mesh};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const ROOT: &str = "b7ad6b7169203331";

#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<Span>>>);

#[async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().unwrap().extend(spans.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The receiver as a service, which the runtime serves.
struct Receiver;

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct ReceiverConfig {
    admin: Admin,
    lifecycle: Lifecycle,
    telemetry: Telemetry,
    #[serde(skip)]
    received: Received,
}

impl Config for ReceiverConfig {
    fn address(&self) -> Option<&str> {
        Some("127.0.0.1:0")
    }
    fn admin(&self) -> &Admin {
        &self.admin
    }
    fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }
    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
    fn validate(&self, _: &mut Problems) {}
}

impl Service for Receiver {
    const NAME: &'static str = "receiver";
    type Config = ReceiverConfig;

    async fn assemble(config: ReceiverConfig, scope: Scope) -> anyhow::Result<Assembly> {
        scope.ready.set(Ok(()));
        Ok(Assembly::grpc(TraceServiceServer::new(config.received)))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Received {
    /// Names of the trace's spans, and whether every one has its parent in it.
    fn trace(&self) -> (HashSet<String>, bool) {
        let spans = self.0.lock().unwrap();
        let ours: HashMap<String, &Span> = spans
            .iter()
            .filter(|span| hex(&span.trace_id) == TRACE)
            .map(|span| (hex(&span.span_id), span))
            .collect();
        let known = |id: String| id == ROOT || ours.contains_key(&id);
        let whole = ours.values().all(|span| known(hex(&span.parent_span_id)));
        (ours.values().map(|span| span.name.clone()).collect(), whole)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_holds_a_question_from_the_client_to_the_worker() {
    let config = ReceiverConfig::default();
    let received = config.received.clone();
    let receiver = start::<Receiver>(config.clone(), Listeners::bind(&config).await.unwrap()).await.unwrap();
    let mesh = Mesh::start(&format!("[telemetry]\notlp_endpoint = \"http://{}\"\n", receiver.address)).await;
    mesh.client().await;
    let channel = Channel::direct(mesh.gateway);
    let chat =
        ChatServiceClient::new(channel.clone()).create_chat(CreateChatRequest::default()).await.unwrap();
    let mut request = Request::new(PostMessageRequest {
        chat_id: chat.into_inner().chat.unwrap().id,
        content: "What is in the documents?".into(),
        ..PostMessageRequest::default()
    });
    let parent = format!("00-{TRACE}-{ROOT}-01").parse().unwrap();
    request.metadata_mut().insert("traceparent", parent);
    MessageServiceClient::new(channel).post_message(request).await.unwrap();

    let wanted = [
        "weft.database.v1.MessageService/PostMessage",
        "weft.queue.v1.QueueService/Publish",
        "weft.database.v1.SearchService/SearchChunks",
        "weft.database.v1.MessageService/AppendReply",
        "process chat_queue",
    ];
    let arrived = || async {
        let (names, whole) = received.trace();
        whole && wanted.iter().all(|name| names.contains(*name))
    };
    let seen = tokio::time::timeout(LIMIT, eventually(LIMIT * 2, arrived)).await;
    assert!(seen.is_ok(), "{:?} of {wanted:?}", received.trace());
    let forwarded = received.0.lock().unwrap().iter().filter(|s| hex(&s.parent_span_id) == ROOT).count();
    assert_eq!(forwarded, 1, "the gateway's span is the client's only child");
    receiver.stop().await;
}
