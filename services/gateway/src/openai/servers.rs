//! All pools of model servers as one route sees them.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, header};

use super::{Catalogue, Failure, list::Merging};
use crate::forward::{Body, Lane};

/// A pool of model servers, and how a route's calls go there.
pub(crate) struct Server {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) lane: Arc<Lane>,
}

/// The pools that a route's calls may go to, in the order of the configuration.
pub(crate) struct Servers(Vec<Server>);

impl Servers {
    pub(crate) const fn new(servers: Vec<Server>) -> Self {
        Self(servers)
    }

    /// Where a model is served: where its name fits best; among equals, at the first pool that has a server for it now.
    /// A pool that fits less well does not stand in for one that is down: it may be somebody else's.
    ///
    /// # Errors
    /// Nobody serves it, or nobody knows.
    pub(crate) async fn find(&self, model: &str) -> Result<&Server, Failure> {
        if let Some(server) = self.best(model) {
            return Ok(server);
        }
        self.settled().await;
        if let Some(server) = self.best(model) {
            return Ok(server);
        }
        self.0.iter().for_each(|server| server.catalogue.want());
        let unsure = self.0.iter().any(|server| server.catalogue.is_unsure());
        Err(if unsure { Failure::UnsureModel(model.into()) } else { Failure::UnknownModel(model.into()) })
    }

    fn best(&self, model: &str) -> Option<&Server> {
        let fits = |server: &Server| server.catalogue.fits(model);
        let most = self.0.iter().filter_map(fits).max()?;
        let mut best = self.0.iter().filter(|server| fits(server) == Some(most)).peekable();
        let first = best.peek().copied();
        best.find(|server| server.catalogue.is_available()).or(first)
    }

    /// Waits for the first lists of pools that have just started.
    async fn settled(&self) {
        for server in &self.0 {
            server.catalogue.settled().await;
        }
    }

    /// The name to measure a model by.
    pub(crate) fn label(server: &Server, model: &str) -> String {
        server.catalogue.label(model).unwrap_or("other").to_owned()
    }

    /// All models.
    pub(crate) async fn list(&self) -> Response<Body> {
        self.settled().await;
        let mut merging = Merging::default();
        self.0.iter().for_each(|server| server.catalogue.merge(&mut merging));
        json(merging.finish())
    }

    /// One model.
    ///
    /// # Errors
    /// Nobody serves it, or nobody knows.
    pub(crate) async fn model(&self, name: &str) -> Result<Response<Body>, Failure> {
        self.find(name).await?;
        let named = self.0.iter().find_map(|server| server.catalogue.entry(name));
        let entry = named.or_else(|| self.0.iter().find_map(|server| server.catalogue.entry_of_any(name)));
        entry.map(json).ok_or_else(|| Failure::UnknownModel(name.to_owned()))
    }
}

fn json(text: String) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(text)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
