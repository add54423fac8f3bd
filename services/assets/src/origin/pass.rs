//! What is not kept goes through: streamed both ways, with the client's own headers.

use axum::{
    body::{Body, HttpBody as _},
    extract::Request,
    response::Response,
};
use futures::TryStreamExt as _;
use http::{HeaderName, Method, StatusCode};

use super::{
    Inner, Site,
    client::Ask,
    headers,
    reply::{self, Account, Served, Why},
    target::Target,
};

/// What would lead clients around this service.
const ALT_SVC: HeaderName = http::header::ALT_SVC;

impl Inner {
    /// Passes a request on and its response back.
    pub(super) async fn pass(&self, site: &Site, target: &Target, request: Request, why: Why) -> Response {
        let (parts, body) = request.into_parts();
        let ask = Ask {
            method: parts.method.clone(),
            url: target.url.clone(),
            headers: headers::passed(&parts.headers),
            body: (!body.is_end_stream()).then_some(body),
        };
        let response = match site.client.send(ask).await {
            Ok(response) => response,
            Err(error) => {
                self.metrics.origin_answered(Served::Error);
                return reply::failed(&error, "bypass");
            }
        };
        if changes(&parts.method) && is_success(response.status()) {
            // RFC 9111, section 4.4: what was known of the URL is not so any more.
            self.marks.change(target.key());
            self.store.forget(target.key()).await;
        }
        self.metrics.origin_answered(Served::Pass);
        let account = Account::passed(why, response.status().as_u16());
        let (status, mut head) = (response.status(), response.headers().clone());
        headers::strip_hop_by_hop(&mut head);
        head.remove(ALT_SVC);
        headers::add_via(&mut head);
        account.add_to(&mut head);
        let metrics = self.metrics.clone();
        let bytes = site.client.bytes(response).inspect_ok(move |chunk| metrics.sent(chunk.len() as u64));
        let mut response = Response::new(Body::from_stream(bytes));
        *response.status_mut() = status;
        *response.headers_mut() = head;
        response
    }
}

/// Whether a method may change what is behind a URL.
fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

fn is_success(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}
