//! Asking an origin: one server, no redirects followed, every wait bounded.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _, stream};
use http::{HeaderMap, Method, StatusCode};
use reqwest::{Body, Response, Url};
use tokio::sync::watch;
use weft_mesh::context;

use crate::config::OriginConfig;

/// Connections that stay open without a request, for each origin.
const IDLE_CONNECTIONS: usize = 64;

/// How long they do: less than servers usually allow.
const IDLE_FOR: Duration = Duration::from_secs(20);

/// Why an origin gave no response, or not to its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// No connection to it could be made.
    #[error("the origin cannot be reached")]
    Unreachable(#[source] Arc<reqwest::Error>),
    /// It said nothing for too long.
    #[error("the origin did not answer in time")]
    Timeout,
    /// The connection broke, or what came was no HTTP.
    #[error("the origin broke off")]
    BrokenOff(#[source] Arc<reqwest::Error>),
    /// It sent fewer bytes than it said.
    #[error("the origin sent {sent} of {said} bytes")]
    TooShort {
        /// How many came.
        sent: u64,
        /// How many it said.
        said: u64,
    },
    /// It answered that it cannot.
    #[error("the origin answered {0}")]
    Status(StatusCode),
    /// The service is ending.
    #[error("the service is stopping")]
    Stopping,
}

impl FetchError {
    /// The status that a client is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// As in the error's body.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "ORIGIN_UNREACHABLE",
            Self::Timeout => "ORIGIN_TIMEOUT",
            Self::BrokenOff(_) | Self::TooShort { .. } => "ORIGIN_BROKE_OFF",
            Self::Status(_) => "ORIGIN_FAILED",
            Self::Stopping => "STOPPING",
        }
    }

    /// As a label.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::BrokenOff(_) | Self::TooShort { .. } => "broken_off",
            Self::Status(_) => "status",
            Self::Stopping => "stopping",
        }
    }

    pub(super) fn of(error: reqwest::Error) -> Self {
        if error.is_timeout() && !error.is_connect() {
            Self::Timeout
        } else if error.is_connect() {
            Self::Unreachable(Arc::new(error.without_url()))
        } else {
            Self::BrokenOff(Arc::new(error.without_url()))
        }
    }
}

/// What of a request goes to the origin.
#[derive(Debug)]
pub struct Ask {
    /// Method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// All headers but `Host`, which the URL gives.
    pub headers: HeaderMap,
    /// The body; `None` without one.
    pub body: Option<axum::body::Body>,
}

/// Connections to one origin.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    timeout: Duration,
}

impl Client {
    /// Prepares the client; connects to nothing.
    ///
    /// # Errors
    /// When TLS cannot be had, such as without any certificate authority on the machine.
    pub fn new(config: &OriginConfig) -> reqwest::Result<Self> {
        weft_runtime::install_tls_provider();
        let encrypted = config.url.starts_with("https:");
        let mut http = reqwest::Client::builder()
            .connect_timeout(config.connect_timeout)
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            // A proxy of the environment would be another host than the configured one.
            .no_proxy()
            .http1_only()
            // Bytes go on as they come, whatever another crate of the build has enabled.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .https_only(encrypted);
        if !encrypted {
            // Nobody to trust is needed then, and a machine without any authority is no reason not to start.
            http = http.tls_certs_only([]);
        }
        Ok(Self { http: http.build()?, timeout: config.timeout })
    }

    /// Sends a request and waits for the head of its response. The wait begins anew with each piece of the request's body
    /// that goes out.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn send(&self, ask: Ask) -> Result<Response, FetchError> {
        let (moved, mut moving) = watch::channel(());
        let mut request = self.http.request(ask.method, ask.url).headers(ask.headers);
        if let Some(body) = ask.body {
            let pieces = body.into_data_stream().inspect_ok(move |_| moved.send_replace(()));
            request = request.body(Body::wrap_stream(pieces));
        }
        let response = request.send();
        tokio::pin!(response);
        loop {
            tokio::select! {
                response = &mut response => return response.map_err(FetchError::of),
                () = tokio::time::sleep(context::remaining(self.timeout)) => return Err(FetchError::Timeout),
                Ok(()) = moving.changed() => {}
            }
        }
    }

    /// The bytes of a response; an error once the origin lets its reader wait for too long. The time in which the reader
    /// does not ask does not count.
    pub fn bytes(
        &self,
        response: Response,
    ) -> impl Stream<Item = Result<Bytes, FetchError>> + Send + 'static {
        let limit = self.timeout;
        stream::try_unfold(response, move |mut response| async move {
            match tokio::time::timeout(limit, response.chunk()).await {
                Ok(Ok(chunk)) => Ok(chunk.map(|chunk| (chunk, response))),
                Ok(Err(e)) => Err(FetchError::of(e)),
                Err(_) => Err(FetchError::Timeout),
            }
        })
    }
}
