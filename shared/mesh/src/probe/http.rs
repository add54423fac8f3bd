//! `GET` of a path on one kept connection.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};

use super::session::{Dial, Lifeline, Verdict};

/// How much of an answer is read so that its connection can be used again.
const BODY_LIMIT_BYTES: usize = 64 * 1024;

/// The health of one HTTP backend.
pub(super) struct HttpSession {
    dial: Dial,
    host: String,
    path: String,
    live: Option<Live>,
}

struct Live {
    sender: http1::SendRequest<Empty<Bytes>>,
    /// The rest of the last answer: until it is read, the connection is not free.
    unread: Option<Limited<Incoming>>,
    _lifeline: Lifeline,
}

impl HttpSession {
    pub(super) fn new(dial: Dial, host: &str, path: &str) -> Self {
        Self { dial, host: host.to_owned(), path: path.to_owned(), live: None }
    }

    pub(super) fn close(&mut self) {
        self.live = None;
    }

    /// Asks on the kept connection if that is free, else on a new one; also if the kept one turns out to be closed.
    pub(super) async fn ask(&mut self) -> Verdict {
        if let Some(mut live) = self.live.take()
            && live.unread.is_none()
            && let Ok(status) = live.get(&self.host, &self.path).await
        {
            self.live = Some(live);
            return verdict(status);
        }
        match self.open().await {
            Ok(status) => verdict(status),
            Err(reason) => Verdict::Failed(reason),
        }
    }

    /// Reads the rest of the last answer, so that the connection can be used again. Has nothing to say.
    pub(super) async fn settle(&mut self) -> Verdict {
        while let Some(live) = &mut self.live
            && let Some(unread) = &mut live.unread
        {
            match unread.frame().await {
                Some(Ok(_)) => {}
                None => live.unread = None,
                // Too long to be read, or cut: the next check makes a connection.
                Some(Err(_)) => self.live = None,
            }
        }
        std::future::pending().await
    }

    async fn open(&mut self) -> Result<StatusCode, String> {
        let (stream, lifeline) = self.dial.connect().await.map_err(|error| error.to_string())?;
        let handshake = http1::handshake(stream).await;
        let (sender, connection) = handshake.map_err(|error| crate::error::chain(&error))?;
        lifeline.run(connection);
        let live = self.live.insert(Live { sender, unread: None, _lifeline: lifeline });
        live.get(&self.host, &self.path).await
    }
}

impl Live {
    async fn get(&mut self, host: &str, path: &str) -> Result<StatusCode, String> {
        let request = Request::get(path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, "weft-health")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let chain = |error| crate::error::chain(&error);
        self.sender.ready().await.map_err(chain)?;
        let response = self.sender.send_request(request).await.map_err(chain)?;
        let status = response.status();
        let body = response.into_body();
        self.unread = (!body.is_end_stream()).then(|| Limited::new(body, BODY_LIMIT_BYTES));
        Ok(status)
    }
}

fn verdict(status: StatusCode) -> Verdict {
    match status {
        status if status.is_success() => Verdict::Passed,
        StatusCode::SERVICE_UNAVAILABLE => Verdict::Failed("says that it is not ready (503)".to_owned()),
        status => Verdict::Failed(format!("answered {status} to the health check")),
    }
}
