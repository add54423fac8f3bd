//! The server, on tonic.

use std::{collections::VecDeque, net::SocketAddr, pin::Pin, time::Duration};

use futures::{Stream, stream};
use tokio::{net::TcpListener, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Code, Request, Response, Status, Streaming,
    codec::CompressionEncoding::Gzip,
    metadata::MetadataMap,
    transport::{Server, server::TcpIncoming},
};
use weft_mesh::timeout;

use super::{Guard, echo::Echo};
use crate::{
    contract::{
        CASE, EchoStatus, Empty, Payload, ResponseParameters, SimpleRequest, SimpleResponse,
        StreamingInputCallRequest, StreamingInputCallResponse, StreamingOutputCallRequest,
        StreamingOutputCallResponse,
        test_service_server::{TestService, TestServiceServer},
    },
    events::Events,
};

pub(super) async fn serve(replica: usize, events: &Events) -> (SocketAddr, Guard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = TestServiceServer::new(Replica { number: replica, events: events.clone() })
        .accept_compressed(Gzip)
        .send_compressed(Gzip)
        .max_decoding_message_size(usize::MAX);
    let stopping = CancellationToken::new();
    let stopped = stopping.clone().cancelled_owned();
    let serving = Server::builder()
        .http2_max_header_list_size(64 * 1024)
        .add_service(Echo(service))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stopped);
    TaskTracker::new().spawn(serving);
    (address, Box::new(stopping.drop_guard()))
}

struct Replica {
    number: usize,
    events: Events,
}

/// A call of a case. One that is dropped before it was answered was cancelled.
struct Call {
    replica: usize,
    events: Events,
    case: Option<String>,
    answered: bool,
}

impl Call {
    fn tell(&self, what: &str) {
        if let Some(case) = &self.case {
            self.events.tell(self.replica, format!("{what} {case}"));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.answered {
            self.tell("cancelled");
        }
    }
}

impl Replica {
    fn begin(&self, metadata: &MetadataMap) -> Call {
        let case = metadata.get(CASE).map(|case| case.to_str().unwrap().to_owned());
        let call = Call { replica: self.number, events: self.events.clone(), case, answered: false };
        if let (Some(timeout), Some(case)) = (metadata.get("grpc-timeout"), &call.case) {
            let left = timeout::parse(timeout.to_str().unwrap()).unwrap().as_millis();
            self.events.tell(self.number, format!("deadline {case} {left}"));
        }
        call.tell("began");
        call
    }
}

/// The status that a request asks for, if not OK.
fn asked(status: Option<EchoStatus>) -> Result<(), Status> {
    match status {
        Some(EchoStatus { code, message }) if code != 0 => Err(Status::new(Code::from_i32(code), message)),
        _ => Ok(()),
    }
}

type Responses = Pin<Box<dyn Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send>>;

#[tonic::async_trait]
impl TestService for Replica {
    type StreamingOutputCallStream = Responses;
    type FullDuplexCallStream = Responses;
    type HalfDuplexCallStream = Responses;

    async fn empty_call(&self, request: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.begin(request.metadata()).answered = true;
        Ok(Response::new(Empty {}))
    }

    async fn unary_call(&self, request: Request<SimpleRequest>) -> Result<Response<SimpleResponse>, Status> {
        self.begin(request.metadata()).answered = true;
        let compressed = request.metadata().get("grpc-encoding").is_some_and(|name| name == "gzip");
        let request = request.into_inner();
        if request.expect_compressed.is_some_and(|expected| expected.value != compressed) {
            return Err(Status::invalid_argument(format!("the request is compressed: {compressed}")));
        }
        if request.payload.is_some_and(|payload| payload.body.iter().any(|byte| *byte != 0)) {
            return Err(Status::invalid_argument("the payload is not all zeros"));
        }
        asked(request.response_status)?;
        let size = usize::try_from(request.response_size).unwrap();
        let mut response = Response::new(SimpleResponse { payload: Payload::zeros(size) });
        if !request.response_compressed.is_some_and(|wanted| wanted.value) {
            response.disable_compression();
        }
        Ok(response)
    }

    async fn streaming_output_call(
        &self,
        request: Request<StreamingOutputCallRequest>,
    ) -> Result<Response<Responses>, Status> {
        let call = self.begin(request.metadata());
        let due = request.into_inner().response_parameters.into();
        Ok(Answers { call, requests: None, due, at_the_end: None }.respond())
    }

    async fn streaming_input_call(
        &self,
        request: Request<Streaming<StreamingInputCallRequest>>,
    ) -> Result<Response<StreamingInputCallResponse>, Status> {
        let mut call = self.begin(request.metadata());
        let mut requests = request.into_inner();
        let mut size = 0;
        while let Some(request) = requests.message().await? {
            size += request.payload.map_or(0, |payload| payload.body.len());
        }
        call.tell("half-closed");
        call.answered = true;
        let aggregated_payload_size = i32::try_from(size).unwrap();
        Ok(Response::new(StreamingInputCallResponse { aggregated_payload_size }))
    }

    async fn full_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let call = self.begin(request.metadata());
        let requests = Some(request.into_inner());
        Ok(Answers { call, requests, due: VecDeque::new(), at_the_end: None }.respond())
    }

    async fn half_duplex_call(
        &self,
        request: Request<Streaming<StreamingOutputCallRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let call = self.begin(request.metadata());
        let requests = Some(request.into_inner());
        Ok(Answers { call, requests, due: VecDeque::new(), at_the_end: Some(Vec::new()) }.respond())
    }

    async fn unimplemented_method(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented("no server has it"))
    }
}

/// The responses of a stream.
struct Answers {
    call: Call,
    requests: Option<Streaming<StreamingOutputCallRequest>>,
    due: VecDeque<ResponseParameters>,
    /// What is answered only after the half-close.
    at_the_end: Option<Vec<ResponseParameters>>,
}

impl Answers {
    fn respond(self) -> Response<Responses> {
        let responses = stream::unfold(self, |mut answers| async {
            let next = answers.next().await?;
            Some((next, answers))
        });
        let mut response = Response::new(Box::pin(responses) as Responses);
        response.disable_compression();
        response
    }

    async fn next(&mut self) -> Option<Result<StreamingOutputCallResponse, Status>> {
        loop {
            if let Some(parameters) = self.due.pop_front() {
                sleep(Duration::from_micros(parameters.interval_us.try_into().unwrap())).await;
                let payload = Payload::zeros(parameters.size.try_into().unwrap());
                return Some(Ok(StreamingOutputCallResponse { payload }));
            }
            let Some(requests) = &mut self.requests else {
                self.call.answered = true;
                return None;
            };
            match requests.message().await {
                Ok(Some(request)) => {
                    if let Err(status) = asked(request.response_status) {
                        self.call.answered = true;
                        self.requests = None;
                        return Some(Err(status));
                    }
                    let kept = self.at_the_end.as_mut();
                    match kept {
                        Some(kept) => kept.extend(request.response_parameters),
                        None => self.due.extend(request.response_parameters),
                    }
                }
                Ok(None) => {
                    self.call.tell("half-closed");
                    self.requests = None;
                    self.due.extend(self.at_the_end.take().unwrap_or_default());
                }
                // The client is gone.
                Err(_) => return None,
            }
        }
    }
}
