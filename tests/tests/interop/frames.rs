//! Peers that misbehave at the level of HTTP/2 frames, on either side of the gateway.

mod backend;
mod clients;
mod servers;
mod streams;
mod wire;

use std::net::SocketAddr;

use tokio::time::timeout;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{
    contract::{Empty, test_service_client::TestServiceClient},
    events::LIMIT,
};

/// A client that behaves.
async fn client(address: SocketAddr) -> TestServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    TestServiceClient::new(endpoint.connect().await.unwrap())
}

/// `EmptyCall`. One that hangs ends the test.
async fn call(client: &TestServiceClient<Channel>) -> Result<(), Status> {
    let mut client = client.clone();
    timeout(LIMIT, client.empty_call(Empty {})).await.expect("the call hangs").map(drop)
}
