//! Unary calls: sizes, compression, metadata.

use anyhow::{Result, ensure};
use tonic::{
    Response,
    codec::CompressionEncoding::Gzip,
    metadata::{MetadataMap, MetadataValue},
};

use super::{
    super::client::{Client, of},
    streaming::asking,
};
use crate::contract::{
    BoolValue, ECHO_INITIAL, ECHO_TRAILING, Empty, Payload, SimpleRequest, SimpleResponse,
};

pub(crate) async fn empty_unary(client: &Client, case: &str) -> Result<()> {
    let response = client.stub.clone().empty_call(of(case, Empty {})).await?;
    ensure!(response.into_inner() == Empty {});
    Ok(())
}

fn sized(sent: usize, received: i32) -> SimpleRequest {
    SimpleRequest { response_size: received, payload: Payload::zeros(sent), ..SimpleRequest::default() }
}

fn check_size(response: &Response<SimpleResponse>, size: usize) -> Result<()> {
    ensure!(response.get_ref().payload == Payload::zeros(size), "another payload came back");
    Ok(())
}

pub(crate) async fn large_unary(client: &Client, case: &str) -> Result<()> {
    let response = client.stub.clone().unary_call(of(case, sized(271_828, 314_159))).await?;
    check_size(&response, 314_159)
}

pub(crate) async fn messages_over_4_mib(client: &Client, case: &str) -> Result<()> {
    let response = client.stub.clone().unary_call(of(case, sized(5 << 20, 6 << 20))).await?;
    check_size(&response, 6 << 20)
}

pub(crate) async fn client_compressed_unary(client: &Client, case: &str) -> Result<()> {
    for value in [true, false] {
        let mut stub = client.stub.clone();
        if value {
            stub = stub.send_compressed(Gzip);
        }
        let request =
            SimpleRequest { expect_compressed: Some(BoolValue { value }), ..sized(271_828, 314_159) };
        check_size(&stub.unary_call(of(case, request)).await?, 314_159)?;
    }
    Ok(())
}

pub(crate) async fn server_compressed_unary(client: &Client, case: &str) -> Result<()> {
    for value in [true, false] {
        let mut stub = client.stub.clone().accept_compressed(Gzip);
        let request =
            SimpleRequest { response_compressed: Some(BoolValue { value }), ..sized(271_828, 314_159) };
        let response = stub.unary_call(of(case, request)).await?;
        check_size(&response, 314_159)?;
        let compressed = response.metadata().get("grpc-encoding").is_some_and(|name| name == "gzip");
        // A server may name an encoding and use it for some messages only.
        ensure!(compressed || !value || !client.server.compresses(), "the response is not compressed");
    }
    Ok(())
}

pub(crate) async fn custom_metadata(client: &Client, case: &str) -> Result<()> {
    let bytes: Vec<u8> = (0..=255).collect();
    let mut request = of(case, sized(271_828, 314_159));
    set_metadata(request.metadata_mut(), "test_initial_metadata_value", &bytes);
    let response = client.stub.clone().unary_call(request).await?;
    // tonic adds the trailers of a unary call to its metadata.
    check_initial(response.metadata(), "test_initial_metadata_value")?;
    check_trailing(response.metadata(), &bytes)?;

    let mut request = of(case, tokio_stream::iter([asking([314_159])]));
    set_metadata(request.metadata_mut(), "test_initial_metadata_value", &bytes);
    let response = client.stub.clone().full_duplex_call(request).await?;
    check_initial(response.metadata(), "test_initial_metadata_value")?;
    let mut responses = response.into_inner();
    ensure!(responses.message().await?.is_some(), "no response came");
    ensure!(responses.message().await?.is_none(), "more came");
    check_trailing(&responses.trailers().await?.unwrap_or_default(), &bytes)
}

pub(crate) async fn metadata_of_10k(client: &Client, case: &str) -> Result<()> {
    let value = "m".repeat(10_000);
    let mut request = of(case, Empty {});
    set_metadata(request.metadata_mut(), &value, &[0xab]);
    let response = client.stub.clone().empty_call(request).await?;
    check_initial(response.metadata(), &value)?;
    check_trailing(response.metadata(), &[0xab])
}

fn set_metadata(metadata: &mut MetadataMap, initial: &str, trailing: &[u8]) {
    metadata.insert(ECHO_INITIAL, initial.parse().unwrap());
    metadata.insert_bin(ECHO_TRAILING, MetadataValue::from_bytes(trailing));
}

fn check_initial(metadata: &MetadataMap, value: &str) -> Result<()> {
    ensure!(metadata.get(ECHO_INITIAL).is_some_and(|found| found == value), "initial: {metadata:?}");
    Ok(())
}

fn check_trailing(metadata: &MetadataMap, value: &[u8]) -> Result<()> {
    let found = metadata.get_bin(ECHO_TRAILING).and_then(|found| found.to_bytes().ok());
    ensure!(found.is_some_and(|found| found == value), "trailing: {metadata:?}");
    Ok(())
}
