//! Delivery of public assets over HTTP, for browsers and the caches before them.
//!
//! Two kinds of URLs: `/assets/<id>/<name>` never changes what it gives; `/files/<owner>/<name>` gives the newest of a
//! name. No identity is asked for, and what is private does not exist here.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::{Path, State, rejection::PathRejection},
    response::Response,
    routing::any,
};
use http::{HeaderMap, Method};
use weft_mesh::error::Classify as _;

pub mod cache_control;
pub mod conditional;
pub mod path;
pub mod range;
mod reply;
pub mod variants;

use self::{
    cache_control::Url,
    conditional::{Validators, Verdict},
    range::Wanted,
    reply::Head,
};
use crate::{
    catalog::{Catalog, Published},
    compress::Encoding,
    content::MediaType,
    error::Error,
};

type Names = Result<Path<(String, String)>, PathRejection>;

/// The routes.
pub fn router(catalog: Catalog) -> Router {
    Router::new()
        .route("/assets/{id}/{name}", any(by_hash))
        .route("/files/{owner}/{name}", any(by_name))
        .with_state(catalog)
}

async fn by_hash(
    State(catalog): State<Catalog>,
    names: Names,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let Ok(Path((id, name))) = names else { return counted(&catalog, reply::not_found()) };
    deliver(&catalog, Url::Hash, &id, &name, &method, &headers).await
}

async fn by_name(
    State(catalog): State<Catalog>,
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
fn wanted(method: &Method, headers: &HeaderMap, validators: &Validators<'_>, size: u64) -> Wanted {
    match headers.get(http::header::RANGE) {
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
