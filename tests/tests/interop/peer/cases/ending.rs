//! How calls end otherwise: with a status, at a deadline, by a cancel.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Request};

use super::{
    super::client::{Client, fails, of},
    streaming::asking,
};
use crate::contract::{
    CASE, EchoStatus, Empty, ResponseParameters, SimpleRequest, StreamingOutputCallRequest,
};

/// A response that does not come before its call is over.
const LATE: ResponseParameters = ResponseParameters { size: 1, interval_us: 60_000_000 };

async fn ends_with(client: &Client, case: &str, code: Code, message: &'static str) -> Result<()> {
    let response_status = Some(EchoStatus { code: code.into(), message: message.into() });
    let request = SimpleRequest { response_status: response_status.clone(), ..Default::default() };
    fails(client.stub.clone().unary_call(of(case, request)).await, code, message)?;
    let request = StreamingOutputCallRequest { response_status, ..Default::default() };
    // A server may answer so with its headers or after them.
    let outcome = match client.stub.clone().full_duplex_call(of(case, tokio_stream::iter([request]))).await {
        Ok(responses) => responses.into_inner().message().await,
        Err(status) => Err(status),
    };
    fails(outcome, code, message)
}

pub(crate) async fn status_code_and_message(client: &Client, case: &str) -> Result<()> {
    ends_with(client, case, Code::Unknown, "test status message").await
}

pub(crate) async fn special_status_message(client: &Client, case: &str) -> Result<()> {
    let message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
    ends_with(client, case, Code::Unknown, message).await
}

pub(crate) async fn unimplemented_method(client: &Client, case: &str) -> Result<()> {
    fails(client.stub.clone().unimplemented_method(of(case, Empty {})).await, Code::Unimplemented, None)
}

pub(crate) async fn unimplemented_service(client: &Client, case: &str) -> Result<()> {
    fails(client.other.clone().unimplemented_call(of(case, Empty {})).await, Code::Unimplemented, None)
}

pub(crate) async fn deadline_is_passed_on(client: &Client, case: &str) -> Result<()> {
    let mut request = of(case, Empty {});
    request.set_timeout(Duration::from_secs(20));
    client.stub.clone().empty_call(request).await?;
    Ok(())
}

/// A stream of requests that ends when the sender is dropped. hyper cancels a call only when nothing waits for its
/// requests either, so this is what a cancel takes besides dropping the responses.
fn open<T>(first: impl IntoIterator<Item = T>) -> (mpsc::Sender<T>, impl Stream<Item = T>) {
    let (keep, receive) = mpsc::channel(1);
    (keep, tokio_stream::iter(first.into_iter().collect::<Vec<_>>()).chain(ReceiverStream::new(receive)))
}

pub(crate) async fn cancel_after_begin(client: &Client, case: &str) -> Result<()> {
    let mut stub = client.stub.clone();
    let (_open, requests) = open([]);
    tokio::select! {
        outcome = stub.streaming_input_call(of(case, requests)) => fails(outcome, Code::Cancelled, None),
        () = client.begun(case) => Ok(()),
    }
}

pub(crate) async fn cancel_while_waiting(client: &Client, case: &str) -> Result<()> {
    let mut stub = client.stub.clone();
    let request = StreamingOutputCallRequest { response_parameters: vec![LATE], ..Default::default() };
    let call = async { stub.streaming_output_call(of(case, request)).await?.into_inner().message().await };
    tokio::select! {
        outcome = call => fails(outcome, Code::Cancelled, None),
        () = client.begun(case) => Ok(()),
    }
}

pub(crate) async fn cancel_after_first_response(client: &Client, case: &str) -> Result<()> {
    let mut request = asking([31_415]);
    request.response_parameters.push(LATE);
    let (_open, requests) = open([request]);
    let mut responses = client.stub.clone().full_duplex_call(of(case, requests)).await?.into_inner();
    let size = responses.message().await?.and_then(|r| r.payload).map(|payload| payload.body.len());
    ensure!(size == Some(31_415), "{size:?} came");
    Ok(())
}

pub(crate) async fn timeout_on_sleeping_server(client: &Client, case: &str) -> Result<()> {
    let request = StreamingOutputCallRequest { response_parameters: vec![LATE], ..Default::default() };
    let (_open, requests) = open([request]);
    let mut request = Request::new(requests);
    request.metadata_mut().insert(CASE, case.parse()?);
    request.set_timeout(Duration::from_millis(500));
    let outcome = match client.stub.clone().full_duplex_call(request).await {
        Ok(responses) => responses.into_inner().message().await,
        Err(status) => Err(status),
    };
    match outcome {
        // What tonic's own timer says, which runs until the headers come.
        Err(status) if status.code() == Code::Cancelled && status.message() == "Timeout expired" => Ok(()),
        outcome => fails(outcome, Code::DeadlineExceeded, None),
    }
}
