//! Clients that do not speak gRPC: gRPC-Web, and the Connect protocol in JSON and in protobuf.
//!
//! What they send becomes gRPC before a call is routed, and what comes back becomes theirs after it: between the two
//! nothing knows of them. Bodies are read here and nowhere else in the gateway, with limits on each and on all together.

mod buffer;
mod codes;
mod complaint;
mod contracts;
mod envelope;
mod source;
mod stream;
mod unary;
mod web;

use std::mem;

use http::{
    HeaderMap, HeaderValue, Method, Request, Uri, header, request,
    uri::{Authority, Scheme},
};

use crate::forward::strip_hop_by_hop;

pub(crate) use buffer::{Buffers, Held, TOTAL_LIMIT, TooMuch};
pub(crate) use complaint::Complaint;
pub(crate) use contracts::Contracts;
pub(crate) use source::Source;
pub(crate) use stream::{Streamed, Streaming};
pub(crate) use unary::Unary;
pub(crate) use web::{Encoded, Web};

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// gRPC, or something that is none of this gateway's business.
    Native,
    /// gRPC-Web.
    Web(Web),
    /// The Connect protocol: one message each way.
    Unary(Codec),
    /// The Connect protocol: messages in envelopes.
    Streaming(Codec),
}

impl Dialect {
    /// As the access log names it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Native => "",
            Self::Web(_) => "grpc-web",
            Self::Unary(_) | Self::Streaming(_) => "connect",
        }
    }
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    /// ProtoJSON.
    Json,
    /// As in gRPC.
    Proto,
}

impl Codec {
    const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Proto => "proto",
        }
    }
}

/// What a request's content type says that its client speaks. That of the Connect protocol is everybody's: whether it is
/// meant depends on where the request leads.
pub(crate) fn dialect<B>(request: &Request<B>) -> Dialect {
    let Some(content_type) = content_type(request.headers()) else { return Dialect::Native };
    if let Some(web) = Web::of(content_type) {
        return Dialect::Web(web);
    }
    let connect = connect(content_type, request.headers()).filter(|_| request.method() == Method::POST);
    connect.unwrap_or(Dialect::Native)
}

fn connect(content_type: &str, headers: &HeaderMap) -> Option<Dialect> {
    // A web page may send forms to anybody without asking first; JSON it may not. Without a browser, forms are what
    // `curl -d` calls everything.
    let browser = || headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
    let is = |name: &str| content_type.eq_ignore_ascii_case(name);
    Some(match () {
        () if is("application/json") => Dialect::Unary(Codec::Json),
        () if is("application/proto") => Dialect::Unary(Codec::Proto),
        () if is("application/connect+json") => Dialect::Streaming(Codec::Json),
        () if is("application/connect+proto") => Dialect::Streaming(Codec::Proto),
        () if is("application/x-www-form-urlencoded") && !browser() => Dialect::Unary(Codec::Json),
        () => return None,
    })
}

/// The media type, without its parameters.
fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').next().map(str::trim)
}

/// Makes a request of gRPC of one that says so in another way.
fn become_grpc(parts: &mut request::Parts) {
    // HTTP/2 has the host in the target.
    let host = parts.headers.remove(header::HOST);
    if parts.uri.authority().is_none()
        && let Some(host) = host.and_then(|host| Authority::try_from(host.as_bytes()).ok())
    {
        let mut uri = mem::take(&mut parts.uri).into_parts();
        (uri.scheme, uri.authority) = (Some(Scheme::HTTP), Some(host));
        parts.uri = Uri::from_parts(uri).unwrap_or_default();
    }
    let headers = &mut parts.headers;
    strip_hop_by_hop(headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    for name in [header::CONTENT_LENGTH, header::ACCEPT_ENCODING, header::CONTENT_ENCODING] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(method: &str, content_type: &str, more: Option<&'static str>) -> Dialect {
        let mut request = Request::builder().method(method).uri("/a.Service/Call");
        request = request.header("content-type", content_type);
        if let Some(name) = more {
            request = request.header(name, "x");
        }
        dialect(&request.body(()).unwrap())
    }

    #[test]
    fn a_content_type_tells_what_a_client_speaks() {
        assert_eq!(spoken("POST", "application/grpc", None), Dialect::Native);
        assert_eq!(spoken("POST", "application/grpc+proto", None), Dialect::Native);
        assert!(matches!(spoken("POST", "application/grpc-web-text+proto", None), Dialect::Web(_)));
        assert_eq!(spoken("POST", "Application/JSON; charset=utf-8", None), Dialect::Unary(Codec::Json));
        assert_eq!(spoken("POST", "application/connect+proto", None), Dialect::Streaming(Codec::Proto));
        assert_eq!(spoken("GET", "application/json", None), Dialect::Native);
        assert_eq!(spoken("POST", "text/plain", None), Dialect::Native);
    }

    #[test]
    fn a_form_is_a_call_unless_a_browser_sends_it() {
        let form = "application/x-www-form-urlencoded";
        assert_eq!(spoken("POST", form, None), Dialect::Unary(Codec::Json));
        assert_eq!(spoken("POST", form, Some("origin")), Dialect::Native);
        assert_eq!(spoken("POST", form, Some("sec-fetch-site")), Dialect::Native);
    }
}
