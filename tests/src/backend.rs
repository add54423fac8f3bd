//! A backend in the hands of Weft's runtime, which stops it as it stops every service.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use futures::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tonic::{Request, Response, Status, Streaming};
use weft_runtime::{
    Assembly, Listeners, Running, Scope, Service,
    config::{Admin, Config, Lifecycle, Problems, Telemetry},
    start,
};
use weft_testkit::eventually_ok;

use crate::{
    LIMIT,
    contract::{
        Empty, Payload, SimpleRequest, SimpleResponse, StreamingInputCallRequest, StreamingInputCallResponse,
        StreamingOutputCallRequest, StreamingOutputCallResponse,
        test_service_server::{TestService, TestServiceServer},
    },
};

pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    running: Option<Running>,
}

impl Backend {
    pub(crate) async fn start(address: SocketAddr) -> Self {
        let config = Settings { address: address.to_string(), ..Settings::default() };
        // What the one before has just closed may still be taken for a moment.
        let listeners = eventually_ok(LIMIT, || Listeners::bind(&config)).await;
        let running = start::<Testing>(config.clone(), listeners).await.unwrap();
        Self { address: running.address, running: Some(running) }
    }

    /// The place of one that is stopped.
    pub(crate) const fn nowhere(address: SocketAddr) -> Self {
        Self { address, running: None }
    }

    /// Returns when what was in flight has ended.
    pub(crate) async fn stop(self) {
        if let Some(running) = self.running {
            running.stop().await;
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Settings {
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

/// `grpc.testing.TestService`, as far as it is called here.
struct Testing;

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
        Ok(Response::new(Empty {}))
    }

    async fn unary_call(&self, request: Request<SimpleRequest>) -> Answer<SimpleResponse> {
        // Long enough to be in flight when the backend is told to stop.
        sleep(Duration::from_millis(2)).await;
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
