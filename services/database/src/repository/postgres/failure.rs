//! What a failure of PostgreSQL means to a caller.

use crate::{error::Error, repository::wait::caller_is_gone};

/// Whether the connection, not the statement, is what failed.
pub(super) fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // Class 08: connection exception; 57P01 to 57P03: the server is going down, or coming up.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("08") || code.starts_with("57P"))
        }
        _ => false,
    }
}

/// Classifies a failure.
pub(super) fn failed(doing: &str, error: sqlx::Error) -> Error {
    let unavailable = |reason: String| Error::Unavailable { server: "postgres", reason };
    if matches!(error, sqlx::Error::PoolTimedOut) {
        return Error::PoolExhausted;
    }
    if is_broken(&error) {
        return unavailable(error.to_string());
    }
    let code = error.as_database_error().and_then(|error| error.code()).map(String::from).unwrap_or_default();
    match code.as_str() {
        // statement_timeout.
        "57014" if caller_is_gone() => Error::DeadlineExceeded,
        "57014" => unavailable("the statement timeout is over".to_owned()),
        // Serialization failure, deadlock: the same request will do later.
        "40001" | "40P01" => unavailable("conflicts with a concurrent write".to_owned()),
        // Class 53: out of connections, memory or disk. Class 28: it does not let us in.
        code if code.starts_with("53") || code.starts_with("28") => unavailable(error.to_string()),
        _ => Error::caused(format!("postgres cannot {doing}"), error),
    }
}
