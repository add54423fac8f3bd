//! What is read of a request, and what is made of it before it is sent on.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use tracing::{Span, field::Empty};
use weft_balance::{
    Class,
    retry::{Deadline, Limits},
};
use weft_mesh::{
    context::{Caller as User, TIMEOUT_HEADER},
    error::MeshError,
    methods::Method,
    terms::{Activity, Terms},
    timeout, trace,
};

use super::{Body, Caller, Lane, caller, headers, identity, passage::Passage, tunnel::Asked};
use crate::{
    config::{Priority, Protocol},
    route::{Redirection, View},
    translate::Source,
};

/// Makes of a request what its backend is asked. Returns that the client wants a WebSocket, if it does.
///
/// # Errors
/// When no backend can be asked for it.
pub(super) fn make_ready(
    lane: &Lane,
    request: &mut Request<Source>,
    caller: &Caller,
    user: Option<&User>,
) -> Result<Option<Asked>, MeshError> {
    caller::forget_lies(request.headers_mut(), caller, &lane.bounds.trusted);
    let asked = match lane.target.protocol {
        Protocol::Http => prepare(lane, request, caller),
        // A service of gRPC has no use for any other method, and a tunnel would go to all of it.
        Protocol::Grpc if request.method() == HttpMethod::CONNECT => return Err(MeshError::Method),
        Protocol::Grpc => {
            if request.headers().contains_key(header::CONNECTION) {
                headers::strip_hop_by_hop(request.headers_mut());
            }
            None
        }
    };
    // After what `Connection` names is gone: a client must not name this.
    identity::introduce(lane, request.headers_mut(), user)?;
    Ok(asked)
}

/// Makes of a request what a backend over HTTP/1.1 is asked: for itself, not for the client's connection, and with word
/// of who asks. Returns that the client wants a WebSocket, if it does.
fn prepare(lane: &Lane, request: &mut Request<Source>, caller: &Caller) -> Option<Asked> {
    let asked = Asked::of(request);
    let (rewriting, host) = (&lane.rule.rewriting, host(request).to_owned());
    let headers = request.headers_mut();
    headers::strip_hop_by_hop(headers);
    headers::join_cookies(headers);
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
    caller::introduce(headers, caller, &host, &lane.bounds.trusted);
    // What the target names counts, and not a second host beside it (RFC 9112 §3.2.2).
    if let Ok(host) = HeaderValue::try_from(rewriting.host.as_deref().unwrap_or(&host)) {
        headers.insert(header::HOST, host);
    }
    if let Some(path) = rewriting.path_and_query(request.uri()) {
        *request.uri_mut() = path.into();
    }
    match &asked {
        Some(asked) => asked.ask(request),
        // A body of unknown length is one with any method; hyper would leave it out of a GET.
        None if !request.body().is_end_stream()
            && !request.headers().contains_key(header::CONTENT_LENGTH) =>
        {
            request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        None => {}
    }
    asked
}

/// A request without its body, for what is said of it when that is gone.
pub(super) fn head<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    (*head.method_mut(), *head.uri_mut()) = (request.method().clone(), request.uri().clone());
    (*head.headers_mut(), *head.extensions_mut()) = (request.headers().clone(), request.extensions().clone());
    head
}

/// What a route is found by.
pub(super) fn view<'a, B>(request: &'a Request<B>, path: &'a str) -> View<'a> {
    View {
        grpc: is_grpc(request.headers()),
        method: request.method().as_str(),
        host: host(request),
        path,
        headers: request.headers(),
    }
}

/// The answer that sends a client elsewhere.
pub(super) fn redirect(to: &Redirection, view: View<'_>, uri: &Uri, scheme: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(to.status).unwrap_or(StatusCode::FOUND);
    if let Ok(location) = HeaderValue::try_from(to.location(view, uri, scheme)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// What holds for a call: by its headers, its route, and what contracts say of its method.
pub(super) fn terms(lane: &Lane, request: &Request<Source>, passage: &Passage) -> Result<Terms, MeshError> {
    let (rule, method, grpc) = (&lane.rule, passage.method(), passage.grpc());
    let idempotent = method.idempotent || rule.idempotent;
    let limits = Limits { default: Some(rule.timeout.unwrap_or(lane.target.timeout)), max: rule.max_timeout };
    Ok(Terms {
        deadline: Deadline::new(asked(request.headers())?, limits, Instant::now()),
        idempotent,
        peek: grpc && idempotent && !method.streaming,
        grpc,
        key: lane.target.key(request.headers()),
        class: match rule.priority {
            Priority::Interactive => Class::Interactive,
            Priority::Batch => Class::Batch,
        },
        idle: rule.idle_timeout.map(Activity::new),
        method,
        trace_attempts: weft_runtime::telemetry::traces_are_exported(),
        stream_ends: None,
    })
}

pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
    // Not `application/grpc-web`: a backend that speaks that by itself has its status in the body.
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

pub(super) fn host<B>(request: &Request<B>) -> &str {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    authority.or_else(|| request.headers().get(header::HOST)?.to_str().ok()).unwrap_or_default()
}

/// GET, HEAD and the other safe methods may be repeated (RFC 9110 §9.2.2); what carries a body is left to the route.
pub(super) fn http_method(request: &Request<Source>) -> Method {
    Method::unknown(request.method().is_safe())
}

/// The time a client gives its call.
pub(super) fn asked(headers: &HeaderMap) -> Result<Option<Duration>, MeshError> {
    let Some(value) = headers.get(TIMEOUT_HEADER) else { return Ok(None) };
    let asked = value.to_str().ok().and_then(timeout::parse);
    asked.map(Some).ok_or(MeshError::Metadata { field: "grpc-timeout", problem: "is not a timeout" })
}

pub(super) fn span(request: &Request<Source>, grpc: bool) -> Span {
    let path = request.uri().path();
    let span = if grpc {
        let method = path.trim_start_matches('/');
        tracing::info_span!(
            "forward",
            otel.name = method,
            otel.kind = "server",
            rpc.system.name = "grpc",
            rpc.method = method,
            server.address = Empty,
            rpc.response.status_code = Empty,
            weft.attempts = Empty,
        )
    } else {
        let method = request.method().as_str();
        tracing::info_span!(
            "forward",
            otel.name = method,
            otel.kind = "server",
            http.request.method = method,
            url.path = path,
            server.address = Empty,
            http.response.status_code = Empty,
            weft.attempts = Empty,
        )
    };
    trace::adopt(&span, request.headers());
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_from_what_begins_like_it() {
        let is = |content_type: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
            is_grpc(&headers)
        };
        assert!(["application/grpc", "application/grpc+proto", "application/grpc;x=y"].iter().all(|t| is(t)));
        assert!(
            !["application/grpc-web", "application/grpc-web-text+proto", "application/json"]
                .iter()
                .any(|t| is(t))
        );
    }
}
