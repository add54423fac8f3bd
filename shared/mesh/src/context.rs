//! Who is calling, and until when the caller waits: the context that travels with every call.
//!
//! On the wire it is metadata: `grpc-timeout`, and who calls; signed where callers are authenticated
//! ([`identity`](crate::identity)), else by name in `weft-user`. In a process it is task-local: the runtime's server layer
//! enters it around a handler and around the response stream, and [`Channel`](crate::Channel) sends it on. A spawned task
//! starts without one: give it one with [`scope`].

use std::{
    future::Future,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, header::HeaderName};
use serde::{Deserialize, Serialize};

use crate::{error::MeshError, timeout};

/// The metadata key that names the caller.
pub const USER_HEADER: HeaderName = HeaderName::from_static("weft-user");
/// The metadata key of the remaining time.
pub const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("grpc-timeout");
/// The caller when none is named.
pub const LOCAL_USER: &str = "local";

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What is the caller's own.
    User,
    /// Everything, on behalf of any user: another service of the mesh, or an application in front of it.
    Service,
    /// Everything: a person who operates the mesh.
    Operator,
}

impl Role {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
            Self::Operator => "operator",
        }
    }

    /// Whether more than what is the caller's own.
    #[must_use]
    pub const fn is_privileged(self) -> bool {
        matches!(self, Self::Service | Self::Operator)
    }
}

/// Somebody on whose behalf a call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// 1 to 128 bytes of printable ASCII without spaces.
    pub user: String,
    /// What the caller may do.
    pub role: Role,
}

impl Caller {
    /// Whoever a call names, where nobody is authenticated: on loopback everybody is an operator.
    ///
    /// # Errors
    /// When the name is none.
    pub fn named(headers: &HeaderMap) -> Result<Self, MeshError> {
        let user = match headers.get(USER_HEADER) {
            None => LOCAL_USER.to_owned(),
            Some(value) => user_name(value)?.to_owned(),
        };
        Ok(Self { user, role: Role::Operator })
    }
}

/// The context of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// On whose behalf.
    pub caller: Caller,
    /// When the caller stops waiting; `None` when it did not say.
    pub deadline: Option<Instant>,
}

tokio::task_local! {
    static CURRENT: Context;
}

impl Context {
    /// Acts for a user, with all rights and without a deadline.
    #[must_use]
    pub fn acting_for(user: impl Into<String>) -> Self {
        Self { caller: Caller { user: user.into(), role: Role::Operator }, deadline: None }
    }

    /// The same, with a deadline.
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// Reads the rest of the metadata of a caller's call.
    ///
    /// # Errors
    /// When a value is malformed; it names the key.
    pub fn of(caller: Caller, headers: &HeaderMap, now: Instant) -> Result<Self, MeshError> {
        let deadline = match headers.get(TIMEOUT_HEADER) {
            None => None,
            Some(value) => {
                let parsed = value.to_str().ok().and_then(timeout::parse);
                let left = parsed
                    .ok_or(MeshError::Metadata { field: "grpc-timeout", problem: "is not a timeout" })?;
                now.checked_add(left)
            }
        };
        Ok(Self { caller, deadline })
    }
}

/// Whether a name may be a user's: 1 to 128 bytes of printable ASCII without spaces.
#[must_use]
pub fn is_user_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

fn user_name(value: &HeaderValue) -> Result<&str, MeshError> {
    value.to_str().ok().filter(|name| is_user_name(name)).ok_or(MeshError::Metadata {
        field: "weft-user",
        problem: "must be 1 to 128 bytes of printable ASCII without spaces",
    })
}

/// The context of the call being handled; outside of one, the local user without a deadline.
#[must_use]
pub fn current() -> Context {
    CURRENT.try_with(Clone::clone).unwrap_or_else(|_| Context::acting_for(LOCAL_USER))
}

/// The user on whose behalf the call being handled is made.
#[must_use]
pub fn user() -> String {
    CURRENT.try_with(|context| context.caller.user.clone()).unwrap_or_else(|_| LOCAL_USER.to_owned())
}

/// Runs a future in a context.
pub async fn scope<F: Future>(context: Context, future: F) -> F::Output {
    CURRENT.scope(context, future).await
}

/// Runs a closure, such as one poll of a stream, in a context.
pub fn sync_scope<R>(context: &Context, work: impl FnOnce() -> R) -> R {
    CURRENT.sync_scope(context.clone(), work)
}

/// How long an outgoing call may take: what the caller still waits, at most `limit`.
#[must_use]
pub fn remaining(limit: Duration) -> Duration {
    current().deadline.map_or(limit, |deadline| limit.min(deadline.saturating_duration_since(Instant::now())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_and_checked() {
        let now = Instant::now();
        let read = |headers: &HeaderMap| Context::of(Caller::named(headers)?, headers, now);
        let mut headers = HeaderMap::new();
        assert_eq!(read(&headers).unwrap(), Context::acting_for("local"));

        headers.insert(USER_HEADER, HeaderValue::from_static("ada"));
        headers.insert(TIMEOUT_HEADER, HeaderValue::from_static("250m"));
        let expected = Context::acting_for("ada").until(now + Duration::from_millis(250));
        assert_eq!(read(&headers).unwrap(), expected);

        headers.insert(USER_HEADER, HeaderValue::from_static("two words"));
        assert!(read(&headers).unwrap_err().to_string().starts_with("weft-user"));
        headers.insert(USER_HEADER, HeaderValue::from_static("ada"));
        headers.insert(TIMEOUT_HEADER, HeaderValue::from_static("soon"));
        assert!(read(&headers).unwrap_err().to_string().starts_with("grpc-timeout"));
    }

    #[tokio::test]
    async fn a_context_is_seen_inside_its_scope_only() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let inside = scope(Context::acting_for("ada").until(deadline), async {
            assert!(remaining(Duration::from_secs(60)) <= Duration::from_secs(5));
            assert_eq!(remaining(Duration::from_secs(1)), Duration::from_secs(1));
            user()
        });
        assert_eq!(inside.await, "ada");
        assert_eq!(user(), "local");
    }
}
