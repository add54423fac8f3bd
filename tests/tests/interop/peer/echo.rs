//! Sends metadata back, first and last, whatever the call: tonic lets no method add trailers to a success.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use tonic::{body::Body, server::NamedService};
use tower::Service;

use crate::contract::{ECHO_INITIAL, ECHO_TRAILING};

/// A service that sends metadata back besides what it does.
#[derive(Clone)]
pub(super) struct Echo<S>(pub(super) S);

impl<S: NamedService> NamedService for Echo<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Echo<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let initial = copies(request.headers(), ECHO_INITIAL);
        let trailing = copies(request.headers(), ECHO_TRAILING);
        let call = self.0.call(request);
        Box::pin(async move {
            let mut response = call.await?;
            response.headers_mut().extend(initial);
            Ok(response.map(|body| {
                Body::new(body.map_frame(move |frame| match frame.into_trailers() {
                    Ok(mut trailers) => {
                        trailers.extend(trailing.clone());
                        Frame::trailers(trailers)
                    }
                    Err(frame) => frame,
                }))
            }))
        })
    }
}

fn copies(headers: &HeaderMap, name: &'static str) -> Vec<(HeaderName, HeaderValue)> {
    headers.get_all(name).iter().map(|value| (HeaderName::from_static(name), value.clone())).collect()
}
