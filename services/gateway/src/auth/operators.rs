//! Who calls on the admin port.

use std::sync::Arc;

use http::HeaderMap;
use weft_mesh::{context::Caller, error::MeshError};
use weft_runtime::Authenticate;

use super::permit;
use crate::table::Tables;

/// Lets those in who show to be operators; everybody while nobody is asked.
pub(crate) struct Operators(pub(crate) Arc<Tables>);

impl Authenticate for Operators {
    fn authenticate(&self, path: &str, headers: &HeaderMap) -> Result<Caller, MeshError> {
        let table = self.0.load();
        let auth = table.auth();
        if !auth.is_configured() {
            return Caller::named(headers);
        }
        let identity = auth.identify(headers, None).inspect_err(|doubt| auth.want(doubt))?;
        match identity {
            // The port is for operators: the guard behind this sees to it. What they do there they do themselves.
            Some(identity) => permit(&identity, true, path, &HeaderMap::new()),
            None => Err(MeshError::Unauthenticated { problem: "an API key or a token is needed" }),
        }
    }
}
