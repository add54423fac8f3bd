//! Finding the backends behind configured addresses: literals as they are, names by DNS, again and again.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weft_balance::{Desired, Origin};

use crate::pool::Pool;

/// How long a lookup may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// A configured backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`; a name stands for every address it resolves to.
    pub address: String,
    /// The weight of each of them.
    pub weight: u32,
    /// The priority of each of them.
    pub tier: u8,
}

impl Target {
    /// Whether an address can be one: `host:port` with a port other than 0.
    #[must_use]
    pub fn is_address(address: &str) -> bool {
        let Some((host, port)) = address.rsplit_once(':') else { return false };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let named = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/' || c == '@');
        named && port.parse::<u16>().is_ok_and(|port| port != 0)
    }

    fn literal(&self) -> Option<Desired> {
        let address: SocketAddr = self.address.parse().ok()?;
        Some(Desired {
            address: address.to_string(),
            weight: self.weight,
            tier: self.tier,
            origin: Origin::Config,
        })
    }
}

/// Fills a pool: at once where all targets are literals, and every `refresh` where there are names to resolve.
pub fn start(
    pool: &Arc<Pool>,
    targets: Vec<Target>,
    refresh: Duration,
    tasks: &TaskTracker,
    stopping: CancellationToken,
) {
    let literals: Vec<Desired> = targets.iter().filter_map(Target::literal).collect();
    let only_literals = literals.len() == targets.len();
    pool.backends.reconcile(&literals);
    pool.changed();
    if only_literals {
        pool.resolved.send_replace(true);
        return;
    }
    let pool = Arc::clone(pool);
    tasks.spawn(async move {
        let mut known: Vec<Vec<Desired>> = vec![Vec::new(); targets.len()];
        loop {
            for (target, known) in targets.iter().zip(&mut known) {
                resolve(&pool, target, known).await;
            }
            let desired: Vec<Desired> = known.iter().flatten().cloned().collect();
            pool.backends.reconcile(&desired);
            pool.changed();
            pool.resolved.send_replace(true);
            tokio::select! {
                () = sleep(refresh) => {}
                () = stopping.cancelled() => return,
            }
        }
    });
}

/// Resolves one target. What was known stays when the lookup fails.
async fn resolve(pool: &Pool, target: &Target, known: &mut Vec<Desired>) {
    if let Some(literal) = target.literal() {
        *known = vec![literal];
        return;
    }
    match timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(&target.address)).await {
        Ok(Ok(found)) => {
            let mut addresses: Vec<String> = found.map(|address| address.to_string()).collect();
            addresses.sort();
            addresses.dedup();
            let desired = |address| Desired {
                address,
                weight: target.weight,
                tier: target.tier,
                origin: Origin::Discovered,
            };
            *known = addresses.into_iter().map(desired).collect();
        }
        Ok(Err(error)) => tracing::warn!(pool = pool.name(), name = target.address, %error, "lookup failed"),
        Err(_) => tracing::warn!(pool = pool.name(), name = target.address, "lookup took too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for good in ["127.0.0.1:1", "[::1]:443", "cache:7101", "a.b-c.svc.cluster.local:65535"] {
            assert!(Target::is_address(good), "{good}");
        }
        for bad in ["", ":1", "cache", "cache:", "cache:0", "cache:65536", "http://cache:1", "a b:1", "u@h:1"]
        {
            assert!(!Target::is_address(bad), "{bad}");
        }
    }
}
