//! How many calls come in a time: the generic cell rate algorithm (ITU-T I.371), which keeps one moment for each key.
//!
//! The moment is the one at which the calls so far would have come one by one at the rate; a call may come as long before
//! it as the burst allows. Nothing has to be refilled, and a key whose moment has passed is as good as unknown.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hash, Hasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::HeaderMap;

use crate::{
    config::{RateKey, RateLimit},
    forward::seconds,
};

/// Locks; calls of different keys seldom meet.
const SHARDS: usize = 16;
/// Keys that are remembered in each: a million in all, some 50 MB.
const KEYS_PER_SHARD: usize = 64 * 1024;
/// Nanoseconds between two looks for keys that can be forgotten, when there are too many.
const SWEEP_INTERVAL: u64 = 1_000_000_000;

/// The moments of all keys of all limits. Shared by all threads, and by all tables.
#[derive(Debug)]
pub(crate) struct Rates {
    began: Instant,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

/// Moments, in nanoseconds after the beginning.
#[derive(Debug, Default)]
struct Shard {
    of_keys: HashMap<u64, u64>,
    /// The keys as they came.
    order: VecDeque<u64>,
    /// When those that have passed were looked for last.
    swept: u64,
}

impl Shard {
    /// Sets the moment of a key. Where all are in use, the one that is known for the longest is forgotten.
    fn set(&mut self, key: u64, moment: u64, now: u64) {
        if let Some(known) = self.of_keys.get_mut(&key) {
            *known = moment;
            return;
        }
        if self.of_keys.len() >= KEYS_PER_SHARD && now.saturating_sub(self.swept) >= SWEEP_INTERVAL {
            self.swept = now;
            self.of_keys.retain(|_, moment| *moment > now);
            self.order.retain(|key| self.of_keys.contains_key(key));
        }
        if self.of_keys.len() >= KEYS_PER_SHARD
            && let Some(oldest) = self.order.pop_front()
        {
            self.of_keys.remove(&oldest);
        }
        self.order.push_back(key);
        self.of_keys.insert(key, moment);
    }
}

/// A limit of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// What tells it from others with the same key.
    name: String,
    key: RateKey,
    /// Nanoseconds from one call to the next.
    every: u64,
    /// How many nanoseconds a call may come early.
    early: u64,
    requests: u64,
    seconds: u64,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may pass, and so many more at once.
    Pass {
        /// How many.
        left: u64,
    },
    /// It came too early by so much.
    TooEarly(Duration),
}

impl Limit {
    /// Of a route with that label; the how-manieth limit of it.
    pub(crate) fn new(config: &RateLimit, label: &str, number: usize) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let requests = config.requests.max(1);
        let every = (nanos(config.per) / requests).max(1);
        let burst = config.burst.unwrap_or(config.requests).max(1);
        Self {
            name: format!("{number} {label}"),
            // Validation has seen to it that it is one.
            key: RateKey::parse(&config.key).unwrap_or(RateKey::Route),
            every,
            early: every.saturating_mul(burst - 1),
            requests,
            seconds: seconds(config.per),
        }
    }

    /// The fields of `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers) after a verdict.
    pub(crate) fn fields(&self, verdict: Verdict) -> (String, String) {
        let policy = format!("\"default\";q={};w={}", self.requests, self.seconds);
        let state = match verdict {
            Verdict::Pass { left } => format!("\"default\";r={left}"),
            Verdict::TooEarly(wait) => format!("\"default\";r=0;t={}", seconds(wait)),
        };
        (policy, state)
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self { began: Instant::now(), hasher: RandomState::new(), shards: Default::default() }
    }
}

impl Rates {
    /// What a call would come to under a limit, and how that is noted. One without the header that is the limit's key is
    /// not limited by it.
    fn look(
        &self,
        limit: &Limit,
        client: Client<'_>,
        headers: &HeaderMap,
        now: u64,
    ) -> Option<(Verdict, Note)> {
        let Client { address, user } = client;
        let key = match (&limit.key, user) {
            (RateKey::Route, _) => self.hasher.hash_one(&limit.name),
            (RateKey::User, Some(user)) => self.hasher.hash_one((&limit.name, user)),
            (RateKey::Address | RateKey::User, _) => self.hasher.hash_one((&limit.name, network(address))),
            (RateKey::Header(name), _) => self.hasher.hash_one((&limit.name, headers.get(name)?.as_bytes())),
        };
        let due = self.shard(key).of_keys.get(&key).copied().unwrap_or(0).max(now);
        let ahead = due - now;
        let verdict = match ahead.checked_sub(limit.early).filter(|early| *early > 0) {
            Some(early) => Verdict::TooEarly(Duration::from_nanos(early)),
            None => Verdict::Pass { left: (limit.early - ahead) / limit.every },
        };
        Some((verdict, Note { key, every: limit.every }))
    }

    /// Counts the call. What others have counted since the look is not lost.
    fn note(&self, note: &Note, now: u64) {
        let mut shard = self.shard(note.key);
        let due = shard.of_keys.get(&note.key).copied().unwrap_or(0).max(now);
        shard.set(note.key, due.saturating_add(note.every), now);
    }

    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        let [first, ..] = &self.shards;
        let shard = self.shards.get(usize::try_from(key % SHARDS as u64).unwrap_or(0)).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// How a call that passes is counted.
#[derive(Debug)]
struct Note {
    key: u64,
    every: u64,
}

/// Who has one address of version 6 has all of its network.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

/// Whose call it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    pub(crate) address: IpAddr,
    /// Where that is known.
    pub(crate) user: Option<&'a str>,
}

/// By the user where that is known, else by the address.
impl Hash for Client<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.user {
            Some(user) => user.hash(state),
            None => network(self.address).hash(state),
        }
    }
}

/// Limits of a route with the moments that they share.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) limits: Vec<Limit>,
    pub(crate) rates: Arc<Rates>,
}

impl Limits {
    /// Counts a call, unless a limit refuses it. The first limit that does, else the one that it comes closest to; `None`
    /// without limits.
    pub(crate) fn take(&self, client: Client<'_>, headers: &HeaderMap) -> Option<(&Limit, Verdict)> {
        if self.limits.is_empty() { None } else { self.take_at(client, headers, Instant::now()) }
    }

    fn take_at(&self, client: Client<'_>, headers: &HeaderMap, now: Instant) -> Option<(&Limit, Verdict)> {
        let now = self.rates.since(now);
        let (mut closest, mut notes): (Option<(&Limit, Verdict)>, Vec<Note>) = (None, Vec::new());
        for limit in &self.limits {
            let Some((verdict, note)) = self.rates.look(limit, client, headers, now) else { continue };
            match (verdict, closest) {
                // It counts against none of them.
                (Verdict::TooEarly(_), _) => return Some((limit, verdict)),
                (Verdict::Pass { left }, Some((_, Verdict::Pass { left: least }))) if left >= least => {}
                (Verdict::Pass { .. }, _) => closest = Some((limit, verdict)),
            }
            notes.push(note);
        }
        notes.iter().for_each(|note| self.rates.note(note, now));
        closest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(of: &[(u64, Duration, Option<u64>, &str)]) -> Limits {
        let limit = |(i, (requests, per, burst, key)): (usize, &(u64, Duration, Option<u64>, &str))| {
            let config = RateLimit { requests: *requests, per: *per, burst: *burst, key: (*key).into() };
            Limit::new(&config, "r", i)
        };
        Limits { limits: of.iter().enumerate().map(limit).collect(), rates: Arc::default() }
    }

    const fn from(address: IpAddr) -> Client<'static> {
        Client { address, user: None }
    }

    fn take(limits: &Limits, client: &str, time: Duration) -> Verdict {
        let now = limits.rates.began + time;
        limits.take_at(from(client.parse().unwrap()), &HeaderMap::new(), now).unwrap().1
    }

    fn passes(limits: &Limits, client: &str, at: Duration) -> bool {
        matches!(take(limits, client, at), Verdict::Pass { .. })
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let limits = limits(&[(10, SECOND, Some(3), "route")]);
        let at = |millis| passes(&limits, "::1", Duration::from_millis(millis));
        assert_eq!([at(0), at(0), at(0), at(0)], [true, true, true, false]);
        assert_eq!([at(99), at(100), at(100), at(199), at(200)], [false, true, false, false, true]);
        // After a rest it is a burst again, and no more.
        assert_eq!([at(9000), at(9000), at(9000), at(9000)], [true, true, true, false]);
    }

    #[test]
    fn who_is_refused_learns_when_to_come_again() {
        let limits = limits(&[(1, 10 * SECOND, None, "route")]);
        assert_eq!(take(&limits, "::1", Duration::ZERO), Verdict::Pass { left: 0 });
        let refused = take(&limits, "::1", Duration::ZERO);
        assert_eq!(refused, Verdict::TooEarly(10 * SECOND));
        let fields = ("\"default\";q=1;w=10".into(), "\"default\";r=0;t=10".into());
        assert_eq!(limits.limits[0].fields(refused), fields);
    }

    #[test]
    fn a_call_that_one_limit_refuses_counts_against_no_other() {
        let limits = limits(&[(3, 3600 * SECOND, None, "route"), (1, SECOND, None, "address")]);
        for second in 0..3 {
            assert!(passes(&limits, "::1", second * SECOND));
            assert!((0..9).all(|_| !passes(&limits, "::1", second * SECOND)));
        }
        let hourly = take(&limits, "::1", 10 * SECOND);
        assert!(matches!(hourly, Verdict::TooEarly(wait) if wait > 1000 * SECOND), "{hourly:?}");
    }

    #[test]
    fn keys_are_apart_and_a_network_of_version_six_is_one() {
        let limits = limits(&[(1, 10 * SECOND, None, "address")]);
        let passes = |client| passes(&limits, client, Duration::ZERO);
        assert_eq!([passes("192.0.2.1"), passes("192.0.2.2"), passes("192.0.2.1")], [true, true, false]);
        assert_eq!(
            [passes("2001:db8::1"), passes("2001:db8::2"), passes("2001:db8:0:1::1")],
            [true, false, true]
        );
        assert!(!passes("::ffff:192.0.2.1"), "it is the same client");
    }

    #[test]
    fn a_user_is_one_wherever_the_calls_come_from_and_nobody_is_the_address() {
        let limits = limits(&[(1, 10 * SECOND, None, "user")]);
        let take = |address: &str, user| {
            let client = Client { address: address.parse().unwrap(), user };
            limits.take(client, &HeaderMap::new()).map(|(_, verdict)| matches!(verdict, Verdict::Pass { .. }))
        };
        assert_eq!(take("::1", Some("ada")), Some(true));
        assert_eq!(take("192.0.2.1", Some("ada")), Some(false));
        assert_eq!(take("::1", Some("bob")), Some(true));
        assert_eq!([take("::1", None), take("::1", None)], [Some(true), Some(false)]);
    }

    #[test]
    fn a_call_without_the_header_is_not_limited_by_it() {
        let limits = limits(&[(1, 10 * SECOND, None, "header:x-key")]);
        let take =
            |headers: &HeaderMap| limits.take(from("::1".parse().unwrap()), headers).map(|taken| taken.1);
        assert_eq!(take(&HeaderMap::new()), None);
        let mut headers = HeaderMap::new();
        headers.insert("x-key", "a".parse().unwrap());
        assert_eq!(take(&headers), Some(Verdict::Pass { left: 0 }));
        assert!(matches!(take(&headers), Some(Verdict::TooEarly(_))));
    }

    #[test]
    fn more_keys_than_are_remembered_are_limited_too_and_old_ones_make_room() {
        let limits = limits(&[(1, 10 * SECOND, None, "address")]);
        let most = u32::try_from(SHARDS * KEYS_PER_SHARD / 4 * 5).unwrap();
        let take = |n: u32, at| {
            let now = limits.rates.began + at;
            limits.take_at(from(IpAddr::from(n.to_be_bytes())), &HeaderMap::new(), now).unwrap().1
        };
        assert!((0..most).all(|n| matches!(take(n, Duration::ZERO), Verdict::Pass { .. })));
        let known =
            || limits.rates.shards.iter().map(|shard| shard.lock().unwrap().of_keys.len()).sum::<usize>();
        assert_eq!(known(), SHARDS * KEYS_PER_SHARD);
        assert!(matches!(take(most - 1, Duration::ZERO), Verdict::TooEarly(_)), "the newest is known");
        for n in 0..10_000 {
            take(most + n, 11 * SECOND);
        }
        assert!(known() < SHARDS * KEYS_PER_SHARD / 2, "{}", known());
    }

    proptest! {
        /// In no time pass more than the rate and the burst allow.
        #[test]
        fn no_more_than_the_rate_and_the_burst_pass(
            gaps in prop::collection::vec(0_u64..400, 1..200),
            requests in 1_u64..20,
            burst in 1_u64..20,
        ) {
            let limits = limits(&[(requests, SECOND, Some(burst), "route")]);
            let (mut at, mut passed) = (Duration::ZERO, Vec::new());
            for gap in gaps {
                at += Duration::from_millis(gap);
                if passes(&limits, "::1", at) {
                    passed.push(at);
                }
            }
            for (i, from) in passed.iter().enumerate() {
                for (j, to) in passed.iter().enumerate().skip(i) {
                    let allowed = burst as f64 + (*to - *from).as_secs_f64() * requests as f64;
                    prop_assert!((j - i + 1) as f64 <= allowed + 0.001, "{} from {from:?} to {to:?}", j - i + 1);
                }
            }
        }
    }
}
