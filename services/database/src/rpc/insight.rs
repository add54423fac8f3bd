//! InsightService.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status};
use weft_mesh::error::status;
use weft_proto::database::v1::{self as pb, insight_service_server::InsightService};

use super::{
    Core,
    convert::{duration, timestamp},
};
use crate::{
    error::Error,
    insight::{BOUNDS_MICROS, QueryStats, SLOW_KEPT, SlowQuery},
    repository::Query,
    validate::Checks,
};

/// Slow queries when the caller does not say.
const SLOW: i32 = 50;

pub(crate) struct Insight(pub(crate) Arc<Core>);

impl Insight {
    fn slow(&self, limit: i32) -> Result<pb::ListSlowQueriesResponse, Error> {
        let most = i32::try_from(SLOW_KEPT).unwrap_or(i32::MAX);
        let text = format!("must be 0 to {most}, is {limit}");
        Checks::new().require((0..=most).contains(&limit), "limit", text).finish()?;
        let limit = if limit == 0 { SLOW } else { limit };
        let slowest = self.0.observer.slowest(usize::try_from(limit).unwrap_or(SLOW_KEPT));
        Ok(pb::ListSlowQueriesResponse { queries: slowest.into_iter().map(Into::into).collect() })
    }

    async fn explain(&self, name: &str) -> Result<pb::ExplainQueryResponse, Error> {
        let engine = self.0.repository.engine();
        let query = Query::named(name, engine.dialect()).ok_or_else(|| Error::not_found("query", name))?;
        let plan = engine.explain(query).await?;
        Ok(pb::ExplainQueryResponse { sql: query.sql(engine.dialect()).unwrap_or_default().to_owned(), plan })
    }

    /// What the process knows is told even while the database is away.
    async fn stats(&self) -> pb::GetStatsResponse {
        let engine = self.0.repository.engine();
        let pool = engine.pool();
        let owed = self.0.repository.owed().await.unwrap_or_default();
        let (cache_hits, cache_misses) = self.0.cache.counts();
        let reachable = engine.health().borrow().is_ok();
        pb::GetStatsResponse {
            backend: engine.dialect().name().to_owned(),
            pool: Some(pb::PoolStats {
                open: pool.open,
                idle: pool.idle,
                max: pool.max,
                waiting: pool.waiting,
                timeouts: pool.timeouts,
            }),
            outbox_depth: owed.depth,
            outbox_oldest_age: Some(duration(owed.oldest_age)),
            queries: self.0.observer.executions(),
            cache_hits,
            cache_misses,
            reachable,
            pid: std::process::id(),
        }
    }
}

impl From<QueryStats> for pb::QueryStats {
    fn from(stats: QueryStats) -> Self {
        let bounds = BOUNDS_MICROS.iter().map(|bound| Some(duration(Duration::from_micros(*bound))));
        let buckets = bounds
            .chain([None])
            .zip(stats.latency.counts)
            .map(|(upper_bound, count)| pb::LatencyBucket { upper_bound, count });
        Self {
            name: stats.query.name().to_owned(),
            calls: stats.calls,
            errors: stats.errors,
            rows: stats.rows,
            total_time: Some(duration(stats.total)),
            p50: Some(duration(stats.latency.quantile(0.5).min(stats.max))),
            p99: Some(duration(stats.latency.quantile(0.99).min(stats.max))),
            max_time: Some(duration(stats.max)),
            buckets: buckets.collect(),
        }
    }
}

impl From<SlowQuery> for pb::SlowQuery {
    fn from(slow: SlowQuery) -> Self {
        Self {
            name: slow.query.name().to_owned(),
            time: Some(timestamp(slow.began)),
            elapsed: Some(duration(slow.elapsed)),
            rows: slow.rows,
            trace_id: slow.trace_id,
        }
    }
}

#[tonic::async_trait]
impl InsightService for Insight {
    async fn list_query_stats(
        &self,
        _: Request<pb::ListQueryStatsRequest>,
    ) -> Result<Response<pb::ListQueryStatsResponse>, Status> {
        let queries = self.0.observer.statistics().into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListQueryStatsResponse { queries }))
    }

    async fn list_slow_queries(
        &self,
        request: Request<pb::ListSlowQueriesRequest>,
    ) -> Result<Response<pb::ListSlowQueriesResponse>, Status> {
        self.slow(request.into_inner().limit).map(Response::new).map_err(status)
    }

    async fn explain_query(
        &self,
        request: Request<pb::ExplainQueryRequest>,
    ) -> Result<Response<pb::ExplainQueryResponse>, Status> {
        self.explain(&request.into_inner().name).await.map(Response::new).map_err(status)
    }

    async fn get_stats(
        &self,
        _: Request<pb::GetStatsRequest>,
    ) -> Result<Response<pb::GetStatsResponse>, Status> {
        Ok(Response::new(self.stats().await))
    }
}
