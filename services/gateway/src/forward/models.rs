//! Calls of the API of OpenAI: to the pool that serves the model they name.

use std::sync::Arc;

use http::{HeaderValue, Request, Response, header};
use weft_mesh::{context::Caller as User, error::MeshError};

use super::{Body, Caller, Forwarder, Lane, passage::Passage};
use crate::{
    openai::{self, Asked, Failure, Operation, Server, Servers, Unread, Watch, Whole},
    route::normalised,
    translate::Source,
};

impl Forwarder {
    /// Sends a call where its route leads: by its model, where the route has the API of OpenAI.
    pub(super) async fn pass(
        self,
        lane: Arc<Lane>,
        request: Request<Source>,
        passage: Passage,
        caller: (Caller, Option<User>),
    ) -> Response<Body> {
        let Some(servers) = lane.servers.clone() else {
            return self.send(lane, request, passage, caller).await;
        };
        // Boxed, because it is large, and each other call has room for it otherwise.
        Box::pin(self.pass_by_model(&servers, lane, request, passage, caller)).await
    }

    async fn pass_by_model(
        self,
        servers: &Servers,
        lane: Arc<Lane>,
        request: Request<Source>,
        passage: Passage,
        caller: (Caller, Option<User>),
    ) -> Response<Body> {
        // gRPC is nothing of this API, and would be judged by what its answers do not have.
        let asked = if passage.grpc() { Asked::Other } else { asked(&lane, &request) };
        let answered = match asked {
            Asked::Call(operation) => {
                let server = find(servers, &lane, request, &self.inner.common.buffers).await;
                return match server {
                    Ok(found) => self.ask(found, operation, passage, caller).await,
                    Err(Refused::Asked(failure)) => passage.answer(failure.code(), failure.response()),
                    Err(Refused::Bounds(error)) => passage.refuse(error),
                };
            }
            Asked::List => Ok(servers.list().await),
            Asked::Model(name) => servers.model(&name).await,
            Asked::Other if lane.rule.pool.is_empty() => Err(Failure::UnknownPath),
            Asked::Other => return self.send(lane, request, passage, caller).await,
        };
        match answered {
            Ok(response) => passage.answer(weft_balance::verdict::Code::Ok, response),
            Err(failure) => passage.answer(failure.code(), failure.response()),
        }
    }

    /// Sends a call to the servers that were found for it.
    async fn ask(
        self,
        found: Found<'_>,
        operation: Operation,
        mut passage: Passage,
        caller: (Caller, Option<User>),
    ) -> Response<Body> {
        let Found { server, model, request } = found;
        let lane = Arc::clone(&server.lane);
        passage.goes_by(&lane);
        let model = Servers::label(server, &model);
        let tokens = &self.inner.common.metrics.tokens;
        let watch = Watch::new(tokens, passage.began(), operation, &lane.rule.pool, model);
        watch.over(self.send(lane, request, passage, caller).await)
    }
}

/// A call whose model is known.
struct Found<'a> {
    server: &'a Server,
    model: String,
    request: Request<Source>,
}

/// Why a call goes nowhere.
enum Refused {
    /// For what it says.
    Asked(Failure),
    /// For what it costs.
    Bounds(MeshError),
}

fn asked(lane: &Lane, request: &Request<Source>) -> Asked {
    let path = normalised(request.uri().path());
    let rest = lane.rule.openai.as_ref().and_then(|prefix| path.strip_prefix(prefix.as_str()));
    rest.map_or(Asked::Other, |rest| Asked::of(request.method(), rest))
}

/// Reads a call and finds who serves its model. What it says stays as it is.
async fn find<'a>(
    servers: &'a Servers,
    lane: &Lane,
    request: Request<Source>,
    buffers: &crate::translate::Buffers,
) -> Result<Found<'a>, Refused> {
    let (mut parts, body) = request.into_parts();
    let coding = parts.headers.get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| coding != "identity") {
        return Err(Refused::Asked(Failure::Compressed));
    }
    let limit = limit(lane);
    let body = openai::read(body, limit, buffers).await.map_err(|unread| refused(unread, limit))?;
    let model = body.model().await.map_err(|problem| Refused::Asked(Failure::Body(problem)))?;
    let server = servers.find(&model).await.map_err(Refused::Asked)?;
    settle_length(&mut parts.headers, &body);
    Ok(Found { server, model, request: Request::from_parts(parts, Source::Whole(Box::new(body))) })
}

fn refused(unread: Unread, limit: u64) -> Refused {
    match unread {
        Unread::TooLarge => Refused::Bounds(MeshError::TooLarge { limit }),
        Unread::TooMuch => Refused::Bounds(MeshError::Overloaded),
        Unread::Broken => {
            Refused::Bounds(MeshError::Unreadable { problem: "the request's body broke off".to_owned() })
        }
        Unread::Late => Refused::Asked(Failure::Late),
    }
}

/// The largest request of a route, in bytes.
fn limit(lane: &Lane) -> u64 {
    let limits = [lane.rule.max_request_bytes.unwrap_or(0), lane.bounds.overload.max_request_bytes];
    limits.into_iter().find(|limit| *limit > 0).unwrap_or(openai::REQUEST_LIMIT).min(openai::BUFFERED_LIMIT)
}

/// Its length is known now, and the client has been told to go on.
fn settle_length(headers: &mut http::HeaderMap, body: &Whole) {
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.bytes().len()));
    headers.remove(header::EXPECT);
}
