//! The client, on tonic.

use std::net::SocketAddr;

use anyhow::{bail, ensure};
use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use super::{
    Peer, Results,
    cases::{ending, streaming, unary},
};
use crate::{
    contract::{
        CASE, test_service_client::TestServiceClient,
        unimplemented_service_client::UnimplementedServiceClient,
    },
    events::{Events, LIMIT},
};

/// What a case has.
pub(super) struct Client {
    pub(super) stub: TestServiceClient<Channel>,
    pub(super) other: UnimplementedServiceClient<Channel>,
    /// What kind of server answers.
    pub(super) server: Peer,
    events: Events,
}

impl Client {
    /// Waits until a server has the call.
    pub(super) async fn begun(&self, case: &str) {
        self.events.until(&format!("began {case}")).await;
    }
}

/// A request of a case, with a deadline.
pub(super) fn of<T>(case: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(LIMIT);
    request.metadata_mut().insert(CASE, case.parse().unwrap());
    request
}

/// Whether a call ended with this status.
pub(super) fn fails<T>(
    outcome: Result<T, Status>,
    code: Code,
    message: impl Into<Option<&'static str>>,
) -> anyhow::Result<()> {
    let Err(status) = outcome else { bail!("it succeeded instead of failing with {code}") };
    ensure!(status.code() == code, "the status is {status:?}");
    let message = message.into();
    ensure!(
        message.is_none_or(|message| status.message() == message),
        "the message is {:?}",
        status.message()
    );
    Ok(())
}

/// Runs the cases in their order, each by its name.
macro_rules! run {
    ($client:ident, $($room:ident::$case:ident,)*) => {
        vec![$({
            let name = stringify!($case);
            let outcome = match timeout(LIMIT, $room::$case(&$client, name)).await {
                Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
                Err(_) => Err(format!("it takes longer than {LIMIT:?}")),
            };
            (name.to_owned(), outcome)
        },)*]
    };
}

pub(super) async fn drive(address: SocketAddr, server: Peer, events: &Events) -> Results {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.http2_max_header_list_size(64 * 1024).connect().await.unwrap();
    let stub = TestServiceClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let other = UnimplementedServiceClient::new(channel);
    let client = Client { stub, other, server, events: events.clone() };
    run!(
        client,
        unary::empty_unary,
        unary::large_unary,
        unary::client_compressed_unary,
        unary::server_compressed_unary,
        streaming::client_streaming,
        streaming::server_streaming,
        streaming::ping_pong,
        streaming::empty_stream,
        streaming::half_close,
        unary::messages_over_4_mib,
        unary::custom_metadata,
        unary::metadata_of_10k,
        ending::status_code_and_message,
        ending::special_status_message,
        ending::unimplemented_method,
        ending::unimplemented_service,
        ending::deadline_is_passed_on,
        ending::cancel_after_begin,
        ending::cancel_while_waiting,
        ending::cancel_after_first_response,
        ending::timeout_on_sleeping_server,
    )
}
