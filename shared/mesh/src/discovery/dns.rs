//! Names among the targets: looked up when the answer's time to live is over, and at once when a backend fails.

mod family;
mod records;
mod resolver;

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};
use weft_balance::Health;

use self::resolver::{Answer, Resolver};
use super::{Finder, Kind, table::Key};
use crate::pool::Pool;

/// How long a lookup may take, retries included.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The least time between two lookups of a name, unless the pool's `refresh` is shorter.
const LEAST: Duration = Duration::from_secs(1);

/// Looks a target's name up, again and again, until it is dropped.
pub(super) async fn follow(finder: Arc<Finder>, key: Key) {
    let Some(kind) = Kind::parse(&key.address) else { return };
    let mut resolver = Resolver::new(&finder.nameservers);
    let mut down = unhealthy(&finder.pool);
    let mut failures = 0;
    loop {
        let asked = Instant::now();
        let answer = timeout(LOOKUP_TIMEOUT, look_up(&mut resolver, &kind)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("timed out after {LOOKUP_TIMEOUT:?}")));
        let pause = match answer {
            Ok(Answer { found, ttl }) => {
                failures = 0;
                finder.found(&key, Ok(found));
                after_answer(ttl, finder.refresh)
            }
            Err(error) => {
                failures += 1;
                finder.found(&key, Err(error));
                after_failure(failures, finder.refresh)
            }
        };
        tokio::select! {
            () = sleep_until(Instant::now() + pause) => {}
            () = loss(&finder.pool, &mut down) => sleep_until(asked + LEAST.min(finder.refresh)).await,
        }
    }
}

async fn look_up(resolver: &mut Resolver, kind: &Kind) -> Result<Answer, String> {
    match kind {
        Kind::Name { host, port } => resolver.addresses(host, *port).await,
        Kind::Service(name) => resolver.services(name).await,
        Kind::Literal(_) => Err("needs no lookup".to_owned()),
    }
}

/// An answer is good for its time to live, within reason.
fn after_answer(ttl: Duration, refresh: Duration) -> Duration {
    ttl.clamp(LEAST.min(refresh), refresh)
}

/// Twice as long after each failure in a row: somebody waits for the name, but a server may be struggling.
fn after_failure(failures: u32, refresh: Duration) -> Duration {
    LEAST.saturating_mul(1 << (failures.clamp(1, 16) - 1)).min(refresh)
}

/// Waits until a backend of the pool becomes unhealthy: its name may stand for another one by now.
async fn loss(pool: &Pool, down: &mut HashSet<String>) {
    loop {
        // Made before the look, it misses nothing that is disturbed after it.
        let disturbed = pool.disturbed.notified();
        let now = unhealthy(pool);
        let news = now.iter().any(|address| !down.contains(address));
        *down = now;
        if news {
            return;
        }
        disturbed.await;
    }
}

fn unhealthy(pool: &Pool) -> HashSet<String> {
    let list = pool.backends.list();
    let unhealthy = list.iter().filter(|backend| backend.health() == Health::Unhealthy);
    unhealthy.map(|backend| backend.address().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn answers_live_as_long_as_they_say_within_a_second_and_the_refresh() {
        assert_eq!(after_answer(ms(3_000), ms(5_000)), ms(3_000));
        assert_eq!(after_answer(ms(0), ms(5_000)), ms(1_000));
        assert_eq!(after_answer(ms(86_400_000), ms(5_000)), ms(5_000));
        assert_eq!(after_answer(ms(0), ms(20)), ms(20), "a refresh under a second is the operator's word");
    }

    #[test]
    fn failures_are_repeated_ever_later() {
        let pauses = [1, 2, 3, 4, 100].map(|failures| after_failure(failures, ms(5_000)));
        assert_eq!(pauses, [ms(1_000), ms(2_000), ms(4_000), ms(5_000), ms(5_000)]);
    }
}
