//! Delivery of public assets over HTTP, for browsers and the caches before them.
//!
//! Two kinds of URLs: `/assets/<id>/<name>` never changes what it gives; `/files/<owner>/<name>` gives the newest of a
//! name. No identity is asked for, and what is private does not exist here. Beside them are the paths of origins.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
    routing::any,
};
use http::{HeaderMap, HeaderValue, Method, header};
use weft_mesh::error::Classify as _;

pub mod cache_control;
pub mod conditional;
pub mod path;
pub mod range;
pub(crate) mod reply;
pub mod variants;

use self::{
    cache_control::Url,
    conditional::{Validators, Verdict},
    range::Wanted,
    reply::Head,
};
use crate::{
    catalog::{Catalog, Published, is_id},
    compress::Encoding,
    content::MediaType,
    error::Error,
    origin::Origins,
};

type Names = Result<Path<(String, String)>, PathRejection>;

/// What is delivered.
#[derive(Clone)]
struct Delivery {
    catalog: Catalog,
    origins: Origins,
}

/// The routes.
pub fn router(catalog: Catalog, origins: Origins) -> Router {
    let mut router =
        Router::new().route("/assets/{id}/{name}", any(by_hash)).route("/files/{owner}/{name}", any(by_name));
    for path in origins.prefixes().into_iter().flat_map(paths) {
        router = router.route(&path, any(by_origin));
    }
    router.with_state(Delivery { catalog, origins })
}

/// The routes of an origin's prefix.
fn paths(prefix: &str) -> Vec<String> {
    match prefix {
        // Beside our own, to which a pattern for all below it is in contradiction; what is no id there comes back.
        "/assets/" => ["", "{file}", "{folder}/{below}/{*rest}"].map(|rest| format!("{prefix}{rest}")).into(),
        _ if prefix.ends_with('/') => vec![prefix.to_owned(), format!("{prefix}{{*rest}}")],
        _ => vec![prefix.to_owned()],
    }
}

async fn by_origin(State(delivery): State<Delivery>, request: Request) -> Response {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
        return unimplemented_call();
    }
    delivery.origins.serve(request).await
}

/// A call of a method that is not there, below an origin's prefix that has all paths.
fn unimplemented_call() -> Response {
    let mut response = Response::default();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static("12"));
    response
}

async fn by_hash(State(delivery): State<Delivery>, names: Names, request: Request) -> Response {
    let Delivery { catalog, origins } = delivery;
    match names {
        Ok(Path((id, _))) if !is_id(&id) && origins.has(&request) => origins.serve(request).await,
        Ok(Path((id, name))) => {
            deliver(&catalog, Url::Hash, &id, &name, request.method(), request.headers()).await
        }
        Err(_) => counted(&catalog, reply::not_found()),
    }
}

async fn by_name(
    State(Delivery { catalog, .. }): State<Delivery>,
    names: Names,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Ok(Path((owner, name))) = names else { return counted(&catalog, reply::not_found()) };
    deliver(&catalog, Url::Stable, &owner, &name, &method, &headers).await
}

async fn deliver(
    catalog: &Catalog,
    url: Url,
    whose: &str,
    name: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return counted(catalog, reply::method_not_allowed());
    }
    // Once more when the bytes turn out to be gone: deleted, or purged and made again.
    for _ in 0..2 {
        let found = match url {
            Url::Hash => catalog.find(whose, name).await,
            Url::Stable => catalog.find_newest(whose, name).await,
        };
        let answered = match found {
            Ok(Some(published)) => answer(catalog, url, &published, method, headers).await,
            Ok(None) => return counted(catalog, reply::not_found()),
            Err(e) => return counted(catalog, failed(&e)),
        };
        match answered {
            Ok(Some(response)) => return response,
            Ok(None) => {}
            Err(e) => return counted(catalog, failed(&e)),
        }
    }
    counted(catalog, failed(&Error::Damaged { what: format!("the bytes of {whose}/{name}") }))
}

/// The answer from what was found; `None` when its bytes are gone.
async fn answer(
    catalog: &Catalog,
    url: Url,
    published: &Arc<Published>,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<Response>, Error> {
    let record = &published.record;
    let media_type = MediaType::parse(&record.content_type)
        .map_err(|_| Error::Damaged { what: format!("the media type of asset {}", record.id) })?;
    let encoding = variants::negotiate(headers, &published.manifest);
    let Some(variant) = published.manifest.variant(encoding) else { return Ok(None) };
    let modified = UNIX_EPOCH + std::time::Duration::from_secs(published.since.as_second().unsigned_abs());
    let validators = Validators { etag: &variant.etag, modified };
    let head = Head { url, media_type: &media_type, encoding, validators };
    match conditional::evaluate(headers, &validators) {
        Verdict::Proceed => {}
        Verdict::NotModified => return Ok(Some(counted_as(catalog, encoding, head.not_modified()))),
        Verdict::Failed => return Ok(Some(counted_as(catalog, encoding, head.precondition_failed()))),
    }
    let size = variant.size_bytes;
    let wanted = wanted(method, headers, &validators, size);
    if wanted == Wanted::Unsatisfiable {
        return Ok(Some(counted_as(catalog, encoding, head.unsatisfiable(size))));
    }
    if method == Method::HEAD {
        return Ok(Some(counted_as(catalog, encoding, head.whole(size, axum::body::Body::empty()))));
    }
    let range = match &wanted {
        Wanted::One(range) => Some(range.clone()),
        Wanted::Whole | Wanted::Unsatisfiable => None,
    };
    let Some(opened) = catalog.open(published, encoding, range.clone()).await? else {
        catalog.repair(published).await?;
        return Ok(None);
    };
    let body = reply::body(opened.bytes, catalog.metrics().clone());
    let response = match range {
        Some(range) => head.part(range, size, body),
        None => head.whole(size, body),
    };
    catalog.metrics().responded(response.status().as_u16(), encoding, opened.from_memory);
    Ok(Some(response))
}

/// What part of the representation is asked for.
pub(crate) fn wanted(method: &Method, headers: &HeaderMap, validators: &Validators<'_>, size: u64) -> Wanted {
    match headers.get(header::RANGE) {
        Some(range)
            if method == Method::GET
                && conditional::range_applies(headers, validators, SystemTime::now()) =>
        {
            range::parse(range.as_bytes(), size)
        }
        _ => Wanted::Whole,
    }
}

/// An error as a response; logged here if an operator must know.
fn failed(error: &Error) -> Response {
    let kind = error.kind();
    if kind == weft_mesh::error::ErrorKind::Internal {
        tracing::error!(error = %weft_mesh::error::chain(error), reason = error.reason(), "asset not delivered");
        return reply::error(kind.http_status(), error.reason(), "internal error", None);
    }
    reply::error(kind.http_status(), error.reason(), &error.to_string(), error.retry_after())
}

fn counted(catalog: &Catalog, response: Response) -> Response {
    counted_as(catalog, Encoding::Identity, response)
}

fn counted_as(catalog: &Catalog, encoding: Encoding, response: Response) -> Response {
    catalog.metrics().responded(response.status().as_u16(), encoding, false);
    response
}
