//! The gateway in front of real sockets: every kind of call, every way a backend can fail.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

mod access_log;
mod admin;
mod auth;
mod backend;
mod client;
mod faults;
mod forwarding;
mod frames;
mod health;
mod lifecycle;
mod limits;
mod metrics;
mod model_server;
mod openai;
mod program;
mod reload;
mod retries;
mod smuggling;
mod sockets;
mod tls;
mod web;

use std::{net::SocketAddr, time::Duration};

use weft_gateway::{Backend, Config, Gateway, Health, HealthKind, Listener, Pool, Protocol, Route};
use weft_runtime::{Listeners, Running, config::Admin, start};

/// A gateway with a gRPC pool `echo` and an HTTP pool `web`, checked by connecting every 50 ms.
async fn gateway(echo: &[SocketAddr], web: &[SocketAddr]) -> Running {
    gateway_with(echo, web, HealthKind::Tcp).await
}

async fn gateway_with(echo: &[SocketAddr], web: &[SocketAddr], kind: HealthKind) -> Running {
    started(config(echo, web, kind)).await
}

/// Its configuration, for tests that change it.
fn config(echo: &[SocketAddr], web: &[SocketAddr], kind: HealthKind) -> Config {
    let health = Health { kind: Some(kind), interval: Duration::from_millis(50), ..Health::default() };
    let pool = |name: &str, protocol, addresses: &[SocketAddr]| Pool {
        name: name.into(),
        protocol,
        backends: addresses.iter().map(|a| Backend { address: a.to_string(), weight: 1, tier: 0 }).collect(),
        health: health.clone(),
        ..Pool::default()
    };
    Config {
        workers: 2,
        listeners: vec![Listener::at("127.0.0.1:0")],
        admin: Admin::at("127.0.0.1:0"),
        pools: vec![pool("echo", Protocol::Grpc, echo), pool("web", Protocol::Http, web)],
        routes: vec![Route::grpc("grpc.testing.*", "echo"), Route::path("/web/", "web")],
        ..Config::default()
    }
}

async fn started(config: Config) -> Running {
    let listeners = Listeners::bind(&config).await.unwrap();
    start::<Gateway>(config, listeners).await.unwrap()
}
