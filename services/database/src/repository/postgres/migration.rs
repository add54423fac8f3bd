//! Brings the tables up to date, one process at a time.

use sqlx::{ConnectOptions, Connection, Executor, migrate::Migrator, postgres::PgConnectOptions};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations/postgres");

/// Held by whoever migrates: `weft_db` as a number. It ends with its session.
const LOCK: &str = "SELECT pg_advisory_lock(33619033425142882)";

/// Connects and applies what is missing.
pub(super) async fn migrate(options: &PgConnectOptions) -> Result<(), String> {
    let text = |error: sqlx::Error| error.to_string();
    let mut connection = options.connect().await.map_err(text)?;
    // Another process may be at it for longer than a statement may take.
    connection.execute("SET statement_timeout = 0").await.map_err(text)?;
    connection.execute(LOCK).await.map_err(text)?;
    connection.execute("CREATE SCHEMA IF NOT EXISTS weft_database").await.map_err(text)?;
    let applied = MIGRATIONS.run_direct(None, &mut connection, false).await;
    applied.map_err(|error| format!("cannot migrate: {error}"))?;
    connection.close().await.map_err(text)
}
