//! All four servers at once, and the configuration that leads the mesh to them.
use crate::{Postgres, RabbitMq, Redis, Result, S3};

const DATABASE: &str = "weft";
const BUCKET: &str = "weft";

/// One of each; they end when this is dropped.
#[derive(Debug)]
pub struct Servers {
    /// For the cache service.
    pub redis: Redis,
    /// For the database service and the job records of the queue.
    pub postgres: Postgres,
    /// For the deliveries of the queue.
    pub rabbitmq: RabbitMq,
    /// For the assets service.
    pub s3: S3,
    database: String,
}

impl Servers {
    /// Starts all four side by side, with an empty database and an empty bucket, both named `weft`.
    ///
    /// # Errors
    /// What is missing or did not start; then none is left running.
    pub async fn start() -> Result<Self> {
        let (redis, postgres, rabbitmq, s3) =
            tokio::try_join!(Redis::start(), Postgres::start(), RabbitMq::start(), S3::start())?;
        let database = postgres.named_database(DATABASE).await?;
        s3.named_bucket(BUCKET)?;
        Ok(Self { redis, postgres, rabbitmq, s3, database })
    }

    /// A configuration file for `weft up --config`.
    pub fn config(&self) -> String {
        let (redis, database, amqp, s3) =
            (self.redis.url(), &self.database, self.rabbitmq.url(), self.s3.url());
        let (key, secret, region) = (S3::ACCESS_KEY_ID, S3::SECRET_ACCESS_KEY, S3::REGION);
        format!(
            r#"[cache.redis]
url = "{redis}"

[database.database]
url = "{database}"

[queue.jobs]
url = "{database}"

[queue.broker]
amqp_url = "{amqp}"

[assets.storage.s3]
endpoint = "{s3}"
bucket = "{BUCKET}"
region = "{region}"
access_key_id = "{key}"
secret_access_key = "{secret}"
"#
        )
    }
}
