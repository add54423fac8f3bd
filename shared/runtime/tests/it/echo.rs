//! A service that tells what it sees of a call.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, async_trait};
use weft_mesh::context;
use weft_proto::cache::v1::{
    DeleteRequest, DeleteResponse, FillRequest, FillResponse, GetManyRequest, GetManyResponse, GetRequest,
    GetResponse, GetStatsRequest, GetStatsResponse, Hit, InvalidateRequest, InvalidateResponse,
    SetManyRequest, SetManyResponse, SetRequest, SetResponse,
    cache_service_server::{CacheService, CacheServiceServer},
    get_response,
};
use weft_runtime::{
    Assembly, Config, Readiness, Scope, Service,
    config::{Admin, Keys, Lifecycle, Problems, Telemetry},
};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EchoConfig {
    pub(crate) address: String,
    pub(crate) admin: Admin,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) telemetry: Telemetry,
    pub(crate) identity: Keys,
    pub(crate) ready: bool,
}

impl Default for EchoConfig {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:0".into(),
            admin: Admin::default(),
            lifecycle: Lifecycle::default(),
            telemetry: Telemetry::default(),
            identity: Keys::default(),
            ready: true,
        }
    }
}

impl Config for EchoConfig {
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
    fn identity(&self) -> &Keys {
        &self.identity
    }
    fn validate(&self, _: &mut Problems) {}
}

#[derive(Debug)]
pub(crate) struct Echo {
    ready: Readiness,
    draining: CancellationToken,
    calls: AtomicU64,
}

impl Service for Echo {
    const NAME: &'static str = "echo";
    type Config = EchoConfig;

    async fn assemble(config: EchoConfig, scope: Scope) -> anyhow::Result<Assembly> {
        scope.ready.set(if config.ready { Ok(()) } else { Err("switched off".into()) });
        let echo = Self { ready: scope.ready, draining: scope.draining, calls: AtomicU64::new(0) };
        Ok(Assembly::grpc(CacheServiceServer::new(echo)))
    }
}

#[async_trait]
impl CacheService for Echo {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let context = context::current();
        let value = match request.into_inner().key.as_str() {
            "user" => context.caller.user,
            "left" => context.deadline.unwrap().duration_since(Instant::now()).as_millis().to_string(),
            "until draining" => {
                self.draining.cancelled().await;
                "finished".into()
            }
            "never" => std::future::pending().await,
            "unavailable once" if self.calls.fetch_add(1, Ordering::Relaxed) == 0 => {
                return Err(unavailable());
            }
            "unavailable once" => format!("{} calls", self.calls.load(Ordering::Relaxed)),
            "unavailable, then never" if self.calls.fetch_add(1, Ordering::Relaxed) < 3 => {
                return Err(unavailable());
            }
            "unavailable, then never" => std::future::pending().await,
            "unavailable" => return Err(unavailable()),
            "ready" => {
                self.ready.set(Ok(()));
                "on".into()
            }
            other => panic!("{other}"),
        };
        let hit = Hit { value: value.into() };
        Ok(Response::new(GetResponse { result: Some(get_response::Result::Hit(hit)) }))
    }

    async fn get_many(&self, _: Request<GetManyRequest>) -> Result<Response<GetManyResponse>, Status> {
        unreachable!()
    }
    async fn set(&self, _: Request<SetRequest>) -> Result<Response<SetResponse>, Status> {
        unreachable!()
    }
    async fn set_many(&self, _: Request<SetManyRequest>) -> Result<Response<SetManyResponse>, Status> {
        unreachable!()
    }
    async fn fill(&self, _: Request<FillRequest>) -> Result<Response<FillResponse>, Status> {
        unreachable!()
    }
    async fn delete(&self, _: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        unreachable!()
    }
    async fn invalidate(
        &self,
        _: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateResponse>, Status> {
        unreachable!()
    }
    async fn get_stats(&self, _: Request<GetStatsRequest>) -> Result<Response<GetStatsResponse>, Status> {
        unreachable!()
    }
}

fn unavailable() -> Status {
    weft_mesh::error::status(weft_mesh::error::MeshError::NoHealthyBackends { pool: "echo".into() })
}

/// A whole response to a GET, as text.
pub(crate) async fn http_get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}
