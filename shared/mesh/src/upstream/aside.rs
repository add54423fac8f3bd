//! What a backend is asked beside the calls.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use weft_balance::Backend;

use super::{Returning, Upstream, address};
use crate::{BoxError, Replay};

impl<B> Upstream<B>
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Asks one backend something, once: it takes no place among the calls, and how it ends says nothing of how well the
    /// backend is. The caller keeps the time; dropping the future, or the body, breaks it off.
    ///
    /// # Errors
    /// There is no answer, for the reason that the transport gives.
    pub async fn ask(
        &self,
        backend: &Arc<Backend>,
        mut request: Request<Replay<B>>,
    ) -> Result<Response<Returning<B>>, BoxError> {
        address::point(&mut request, backend.address(), &self.wire);
        let link = self.link(backend);
        let response = link.send(request).await.map_err(|error| error.source)?;
        Ok(response.map(|body| Returning::new(body, link)))
    }
}
