//! Where a request goes on the wire.

use http::{HeaderValue, Request, Uri, header, uri::Scheme};

use crate::{link::Wire, pool::Protocol};

/// Points a request at a backend. The authority the client asked for stays; without one it is the backend's.
pub(super) fn point<B>(request: &mut Request<B>, backend: &str, wire: &Wire) {
    let path = request.uri().path_and_query().cloned();
    match wire.protocol {
        Protocol::Grpc => {
            let mut uri = http::uri::Parts::default();
            uri.scheme = Some(if wire.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
            uri.authority = request.uri().authority().cloned().or_else(|| backend.parse().ok());
            uri.path_and_query = path;
            if let Ok(uri) = Uri::from_parts(uri) {
                *request.uri_mut() = uri;
            }
            *request.version_mut() = http::Version::HTTP_2;
        }
        Protocol::Http => {
            if !request.headers().contains_key(header::HOST) {
                let host = request.uri().authority().map_or(backend, http::uri::Authority::as_str);
                if let Ok(host) = HeaderValue::try_from(host) {
                    request.headers_mut().insert(header::HOST, host);
                }
            }
            *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
            *request.version_mut() = http::Version::HTTP_11;
        }
    }
}
