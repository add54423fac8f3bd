//! The lanes of a route with the API of OpenAI: one to each pool of model servers.

use std::{collections::BTreeMap, sync::Arc};

use super::Entry;
use crate::{
    config,
    forward::Lane,
    metrics::Durations,
    openai::{Server, Servers},
    route::Rule,
};

type Entries = BTreeMap<String, Arc<Entry>>;

/// The pool of a rule. A route with the API of OpenAI may have none of its own: its lane then has the first one with
/// models, to which nothing is sent by it.
pub(super) fn pool_of<'a>(
    rule: &Rule,
    config: &[config::Pool],
    pools: &'a Entries,
) -> Option<&'a Arc<Entry>> {
    let first = || config.iter().find(|pool| pool.models.is_some() && rule.openai.is_some());
    pools.get(&rule.pool).or_else(|| pools.get(&first()?.name))
}

/// A lane with those to model servers, if its route has the API of OpenAI. What holds for the route holds for all.
pub(super) fn with_servers(
    mut lane: Lane,
    config: &[config::Pool],
    pools: &Entries,
    thread: usize,
) -> Arc<Lane> {
    if let Some(prefix) = lane.rule.openai.clone() {
        let server = |pool: &config::Pool| {
            let (models, entry) = (pool.models.as_ref()?, pools.get(&pool.name)?);
            let (catalogue, target) = (entry.catalogue()?, entry.target(thread)?);
            let host = models.host.as_deref();
            let rule = Rule {
                pool: pool.name.clone(),
                rewriting: lane.rule.rewriting.rebased(&prefix, &models.base_path, host),
                ..lane.rule.clone()
            };
            let (gate, shares, limits) = (lane.gate.clone(), lane.shares.clone(), lane.limits.clone());
            let (audience, bounds) = (None, Arc::clone(&lane.bounds));
            let (durations, servers) = (Durations::default(), None);
            let lane = Lane {
                catalogue: Some(Arc::clone(&catalogue)),
                rule,
                target,
                audience,
                gate,
                shares,
                durations,
                limits,
                bounds,
                servers,
            };
            Some(Server { catalogue, lane: Arc::new(lane) })
        };
        lane.servers = Some(Arc::new(Servers::new(config.iter().filter_map(server).collect())));
    }
    Arc::new(lane)
}
