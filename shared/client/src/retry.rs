//! Patience: repeating a call over a restart of what answers it.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use crate::{Backoff, Error, Result};

/// How long to go on with something that may be repeated while the mesh cannot do it.
///
/// The channel itself repeats a call within milliseconds, at another replica; this is for the seconds that a restart of
/// the gateway takes.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long after the first failure the last repetition may begin.
    pub limit: Duration,
    /// The pauses between.
    pub backoff: Backoff,
}

impl Patience {
    /// Patience for this long.
    #[must_use]
    pub fn of(limit: Duration) -> Self {
        Self { limit, backoff: Backoff::default() }
    }

    /// Repeats `call`, which must be idempotent, while its failures are transient and patience lasts.
    ///
    /// # Errors
    /// The last failure.
    pub async fn run<T, F, Fut>(self, mut call: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let mut first_failure = None;
        let mut attempt = 0;
        loop {
            let error = match call().await {
                Err(error) if error.is_transient() => error,
                done => return done,
            };
            let since = *first_failure.get_or_insert_with(Instant::now);
            if since.elapsed() >= self.limit {
                return Err(error);
            }
            self.backoff.pause(attempt, retry_after(&error)).await;
            attempt += 1;
        }
    }
}

/// When the other side asks to be tried again.
pub(crate) fn retry_after(error: &Error) -> Option<Duration> {
    match error {
        Error::Call(call) => call.retry_after,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tonic::{Code, Status};
    use weft_mesh::error::{MeshError, status};

    use super::*;

    fn patience(limit: Duration) -> Patience {
        let backoff = Backoff { base: Duration::from_millis(1), max: Duration::from_millis(2) };
        Patience { limit, backoff }
    }

    #[tokio::test]
    async fn transient_failures_are_waited_out() {
        let mut calls = 0;
        let outcome = patience(Duration::from_secs(60)).run(|| {
            calls += 1;
            let answer = if calls < 4 { Err(status(MeshError::Overloaded).into()) } else { Ok(calls) };
            async move { answer }
        });
        assert_eq!(outcome.await.unwrap(), 4);
    }

    #[tokio::test]
    async fn a_definite_failure_is_not_repeated() {
        let mut calls = 0;
        let outcome: Result<()> = patience(Duration::from_secs(60))
            .run(|| {
                calls += 1;
                let refused = status(MeshError::Metadata { field: "x", problem: "y" });
                async move { Err(refused.into()) }
            })
            .await;
        assert!(outcome.is_err());
        assert_eq!(calls, 1);
    }

    #[tokio::test]
    async fn patience_ends_with_the_last_failure() {
        let outcome: Result<()> =
            patience(Duration::ZERO).run(|| async { Err(status(MeshError::Overloaded).into()) }).await;
        assert_eq!(outcome.unwrap_err().to_string(), "too many calls in flight");
    }

    #[test]
    fn a_broken_connection_is_transient_and_a_defect_of_a_service_is_not() {
        let broken = Status::from_error("connection reset".into());
        assert_eq!(broken.code(), Code::Unknown);
        assert!(Error::from(broken).is_transient());

        #[derive(Debug, thiserror::Error)]
        #[error("bug")]
        struct Defect;
        impl weft_mesh::error::Classify for Defect {
            fn kind(&self) -> weft_mesh::error::ErrorKind {
                weft_mesh::error::ErrorKind::Internal
            }
            fn reason(&self) -> &str {
                "DEFECT"
            }
        }
        assert!(!Error::from(status(Defect)).is_transient());
    }
}
