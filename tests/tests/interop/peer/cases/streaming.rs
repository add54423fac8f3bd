//! Streams in either direction, and both.

use anyhow::{Result, ensure};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::super::client::{Client, of};
use crate::contract::{
    Payload, ResponseParameters, StreamingInputCallRequest, StreamingOutputCallRequest,
    StreamingOutputCallResponse,
};

/// A request for responses of these sizes.
pub(crate) fn asking<const N: usize>(sizes: [i32; N]) -> StreamingOutputCallRequest {
    let parameters = sizes.map(|size| ResponseParameters { size, interval_us: 0 });
    StreamingOutputCallRequest { response_parameters: parameters.into(), ..Default::default() }
}

/// The sizes of all responses that are left.
async fn rest(mut responses: Streaming<StreamingOutputCallResponse>) -> Result<Vec<usize>> {
    let mut sizes = Vec::new();
    while let Some(response) = responses.message().await? {
        sizes.push(response.payload.map_or(0, |payload| payload.body.len()));
    }
    Ok(sizes)
}

pub(crate) async fn client_streaming(client: &Client, case: &str) -> Result<()> {
    let sizes = [27_182, 8, 1_828, 45_904];
    let requests = sizes.map(|size| StreamingInputCallRequest { payload: Payload::zeros(size) });
    let response = client.stub.clone().streaming_input_call(of(case, tokio_stream::iter(requests))).await?;
    let size = response.into_inner().aggregated_payload_size;
    ensure!(size == 74_922, "{size} bytes arrived");
    Ok(())
}

pub(crate) async fn server_streaming(client: &Client, case: &str) -> Result<()> {
    let request = of(case, asking([31_415, 9, 2_653, 58_979]));
    let responses = client.stub.clone().streaming_output_call(request).await?.into_inner();
    let sizes = rest(responses).await?;
    ensure!(sizes == [31_415, 9, 2_653, 58_979], "{sizes:?}");
    Ok(())
}

pub(crate) async fn ping_pong(client: &Client, case: &str) -> Result<()> {
    let (send, receive) = mpsc::channel(1);
    // The response may begin with its first message only.
    let exchange = [(27_182, 31_415), (8, 9), (1_828, 2_653), (45_904, 58_979)];
    let asked =
        |(sent, received)| StreamingOutputCallRequest { payload: Payload::zeros(sent), ..asking([received]) };
    send.send(asked(exchange[0])).await?;
    let requests = ReceiverStream::new(receive);
    let mut responses = client.stub.clone().full_duplex_call(of(case, requests)).await?.into_inner();
    for (index, (_, received)) in exchange.into_iter().enumerate() {
        if index > 0 {
            send.send(asked(exchange[index])).await?;
        }
        let size = responses.message().await?.and_then(|r| r.payload).map(|payload| payload.body.len());
        ensure!(size == usize::try_from(received).ok(), "{size:?} instead of {received}");
    }
    drop(send);
    let more = rest(responses).await?;
    ensure!(more.is_empty(), "more came: {more:?}");
    Ok(())
}

pub(crate) async fn empty_stream(client: &Client, case: &str) -> Result<()> {
    let request = of(case, tokio_stream::empty());
    let sizes = rest(client.stub.clone().full_duplex_call(request).await?.into_inner()).await?;
    ensure!(sizes.is_empty(), "something came: {sizes:?}");
    Ok(())
}

pub(crate) async fn half_close(client: &Client, case: &str) -> Result<()> {
    let (send, receive) = mpsc::channel(3);
    let mut stub = client.stub.clone();
    for size in [10, 20, 30] {
        send.send(asking([size])).await?;
    }
    let call = stub.half_duplex_call(of(case, ReceiverStream::new(receive)));
    let half_close = async {
        client.begun(case).await;
        drop(send);
    };
    let (call, ()) = tokio::join!(call, half_close);
    let sizes = rest(call?.into_inner()).await?;
    ensure!(sizes == [10, 20, 30], "{sizes:?}");
    Ok(())
}
