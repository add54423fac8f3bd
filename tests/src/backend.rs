//! A backend in the hands of Weft's runtime, which stops it as it stops every service.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tonic::{Request, Response, Status, Streaming};
use weft_runtime::{
    Assembly, Scope, Service,
    config::{Admin, Config, Lifecycle, Problems, Telemetry},
};

use crate::contract::{
    Empty, Payload, SimpleRequest, SimpleResponse, StreamingInputCallRequest, StreamingInputCallResponse,
    StreamingOutputCallRequest, StreamingOutputCallResponse,
    test_service_server::{TestService, TestServiceServer},
};

/// How long a unary call takes: long enough to be in flight when the backend is told to stop.
const SERVICE_TIME: Duration = Duration::from_millis(2);

/// Its configuration: where it listens, and what every service has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    address: String,
    admin: Admin,
    lifecycle: Lifecycle,
    telemetry: Telemetry,
}

impl Config for Settings {
    fn address(&self) -> Option<&str> {
        Some(&self.address)
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

/// `grpc.testing.TestService`, as far as it is called while things are disrupted.
#[derive(Debug)]
pub struct Testing;

impl Service for Testing {
    const NAME: &'static str = "testing";
    type Config = Settings;

    async fn assemble(_: Settings, scope: Scope) -> anyhow::Result<Assembly> {
        scope.ready.set(Ok(()));
        Ok(Assembly::grpc(TestServiceServer::new(Self)))
    }
}

type Responses = Pin<Box<dyn Stream<Item = Result<StreamingOutputCallResponse, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl TestService for Testing {
    type StreamingOutputCallStream = Responses;
    type FullDuplexCallStream = Responses;
    type HalfDuplexCallStream = Responses;

    async fn empty_call(&self, _: Request<Empty>) -> Answer<Empty> {
        sleep(SERVICE_TIME).await;
        Ok(Response::new(Empty {}))
    }

    async fn unary_call(&self, request: Request<SimpleRequest>) -> Answer<SimpleResponse> {
        sleep(SERVICE_TIME).await;
        let size = usize::try_from(request.into_inner().response_size).unwrap_or_default();
        Ok(Response::new(SimpleResponse { payload: Payload::zeros(size) }))
    }

    async fn streaming_output_call(&self, request: Request<StreamingOutputCallRequest>) -> Answer<Responses> {
        let responses =
            stream::iter(request.into_inner().response_parameters).then(|parameters| async move {
                sleep(Duration::from_micros(parameters.interval_us.try_into().unwrap_or_default())).await;
                let payload = Payload::zeros(parameters.size.try_into().unwrap_or_default());
                Ok(StreamingOutputCallResponse { payload })
            });
        Ok(Response::new(Box::pin(responses)))
    }

    async fn streaming_input_call(
        &self,
        _: Request<Streaming<StreamingInputCallRequest>>,
    ) -> Answer<StreamingInputCallResponse> {
        Err(Status::unimplemented("nobody calls it"))
    }

    async fn full_duplex_call(&self, _: Request<Streaming<StreamingOutputCallRequest>>) -> Answer<Responses> {
        Err(Status::unimplemented("nobody calls it"))
    }

    async fn half_duplex_call(&self, _: Request<Streaming<StreamingOutputCallRequest>>) -> Answer<Responses> {
        Err(Status::unimplemented("nobody calls it"))
    }

    async fn unimplemented_method(&self, _: Request<Empty>) -> Answer<Empty> {
        Err(Status::unimplemented("no server has it"))
    }
}
