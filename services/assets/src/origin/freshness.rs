//! How old a response is, and what its age means (RFC 9111, section 4.2, and RFC 5861). Pure: the time is passed in.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

use super::directives::Directives;

/// How long a path is fresh that never changes what it gives.
const IMMUTABLE: Duration = Duration::from_secs(31_536_000);

/// When a response was asked for, and when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// When the request went out.
    pub requested_at: SystemTime,
    /// When the response began to come in.
    pub received_at: SystemTime,
}

/// What the operator says of an origin's responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long one is fresh that does not say it.
    pub default_ttl: Duration,
    /// How long a stale one may be given when the origin fails.
    pub stale_if_error: Duration,
    /// How long a stale one may be given while it is fetched again.
    pub stale_while_revalidate: Duration,
    /// Whether the path never changes what it gives.
    pub immutable: bool,
}

/// The times of a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    age_when_received: Duration,
    received_at: SystemTime,
    lifetime: Duration,
    while_revalidate: Duration,
    if_error: Duration,
}

/// What may be done with a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Given.
    Fresh,
    /// Given, and fetched again meanwhile.
    WhileRevalidate,
    /// Given if the origin fails to give a newer one.
    IfError,
    /// Nothing, before the origin has confirmed it.
    Expired,
}

impl Freshness {
    /// The times that the headers of a response, when it came, and the operator amount to.
    #[must_use]
    pub fn of(headers: &HeaderMap, timing: Timing, rules: &Rules) -> Self {
        let directives = Directives::of(headers);
        let (while_revalidate, if_error) = windows(&directives, rules);
        Self {
            age_when_received: age_when_received(headers, timing),
            received_at: timing.received_at,
            lifetime: lifetime(headers, &directives, timing, rules),
            while_revalidate,
            if_error,
        }
    }

    /// How long ago the origin made or confirmed the response.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Duration {
        self.age_when_received + now.duration_since(self.received_at).unwrap_or_default()
    }

    /// Seconds for which it is still fresh; negative once it is stale.
    #[must_use]
    pub fn ttl(&self, now: SystemTime) -> i64 {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 2);
        seconds(self.lifetime) - seconds(self.age(now))
    }

    /// How long it is fresh in all.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// What may be done with it now.
    #[must_use]
    pub fn state(&self, now: SystemTime) -> State {
        let age = self.age(now);
        if age < self.lifetime {
            return State::Fresh;
        }
        match age - self.lifetime {
            stale if stale < self.while_revalidate => State::WhileRevalidate,
            stale if stale < self.if_error => State::IfError,
            _ => State::Expired,
        }
    }
}

/// Whether a response is one for ever: the path says so, and the origin does not object.
#[must_use]
pub fn is_immutable(directives: &Directives, rules: &Rules) -> bool {
    rules.immutable && !directives.no_cache && !directives.must_revalidate
}

/// Section 4.2.1, and the operator's word for what says nothing.
fn lifetime(headers: &HeaderMap, directives: &Directives, timing: Timing, rules: &Rules) -> Duration {
    if directives.no_cache {
        return Duration::ZERO;
    }
    if is_immutable(directives, rules) {
        return IMMUTABLE;
    }
    if let Some(said) = directives.s_maxage.or(directives.max_age) {
        return said;
    }
    if !headers.contains_key(header::EXPIRES) {
        return rules.default_ttl;
    }
    // A date that cannot be read has passed, and so have all of two.
    let mut lines = headers.get_all(header::EXPIRES).iter();
    let expires = lines.next().and_then(date).filter(|_| lines.next().is_none());
    let made = headers.get(header::DATE).and_then(date).unwrap_or(timing.received_at);
    expires.and_then(|expires| expires.duration_since(made).ok()).unwrap_or_default()
}

/// The times past its freshness: the response's own word, else the operator's unless the response forbids it. `s-maxage`
/// forbids it too (section 5.2.2.10).
fn windows(directives: &Directives, rules: &Rules) -> (Duration, Duration) {
    if directives.no_cache || directives.must_revalidate {
        return (Duration::ZERO, Duration::ZERO);
    }
    let otherwise = |configured| if directives.s_maxage.is_some() { Duration::ZERO } else { configured };
    (
        directives.stale_while_revalidate.unwrap_or_else(|| otherwise(rules.stale_while_revalidate)),
        directives.stale_if_error.unwrap_or_else(|| otherwise(rules.stale_if_error)),
    )
}

/// `corrected_initial_age` of section 4.2.3.
fn age_when_received(headers: &HeaderMap, timing: Timing) -> Duration {
    let made = headers.get(header::DATE).and_then(date);
    let apparent = made.and_then(|made| timing.received_at.duration_since(made).ok()).unwrap_or_default();
    let said = headers.get(header::AGE).and_then(said_age).unwrap_or_default();
    let delay = timing.received_at.duration_since(timing.requested_at).unwrap_or_default();
    apparent.max(said + delay)
}

/// The first of a list; what is no number is no age, and one too large for us is larger than any lifetime.
fn said_age(value: &http::HeaderValue) -> Option<Duration> {
    let first = value.to_str().ok()?.split(',').next()?.trim();
    let is_number = !first.is_empty() && first.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| Duration::from_secs(first.parse().map_or(u32::MAX, |age: u32| age).into()))
}

fn date(value: &http::HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: u64 = 1_700_000_000;
    const RULES: Rules = Rules {
        default_ttl: Duration::from_secs(60),
        stale_if_error: Duration::from_secs(1000),
        stale_while_revalidate: Duration::from_secs(10),
        immutable: false,
    };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    /// Asked for and received at once.
    fn freshness(pairs: &[(&str, &str)], rules: &Rules) -> Freshness {
        Freshness::of(&headers(pairs), Timing { requested_at: at(T0), received_at: at(T0) }, rules)
    }

    #[test]
    fn how_long_a_response_is_fresh() {
        let (before, same) = (httpdate::fmt_http_date(at(T0 - 100)), httpdate::fmt_http_date(at(T0)));
        let later = httpdate::fmt_http_date(at(T0 + 500));
        for (pairs, expected) in [
            (&[("cache-control", "max-age=300")][..], 300),
            (&[("cache-control", "max-age=300, s-maxage=20")], 20),
            (&[("cache-control", "s-maxage=900, max-age=1")], 900),
            (&[("cache-control", "max-age=0")], 0),
            (&[("cache-control", "max-age=x")], 0),
            (&[("cache-control", "no-cache, max-age=300")], 0),
            (&[("cache-control", "max-age=7"), ("expires", later.as_str())], 7),
            (&[("expires", later.as_str())], 500),
            (&[("expires", later.as_str()), ("date", before.as_str())], 600),
            (&[("expires", before.as_str()), ("date", same.as_str())], 0),
            (&[("expires", "0")], 0),
            (&[("expires", later.as_str()), ("expires", later.as_str())], 0),
            (&[("cache-control", "public")], 60),
            (&[], 60),
        ] {
            assert_eq!(freshness(pairs, &RULES).lifetime(), Duration::from_secs(expected), "{pairs:?}");
        }
    }

    #[test]
    fn a_path_that_never_changes_is_fresh_for_a_year_unless_the_origin_objects() {
        let rules = Rules { immutable: true, ..RULES };
        for (value, expected) in [
            ("max-age=60", 31_536_000),
            ("public", 31_536_000),
            ("no-cache", 0),
            ("max-age=60, must-revalidate", 60),
        ] {
            let lifetime = freshness(&[("cache-control", value)], &rules).lifetime();
            assert_eq!(lifetime, Duration::from_secs(expected), "{value}");
        }
    }

    #[test]
    fn the_age_counts_what_passed_before_and_on_the_way() {
        let made = httpdate::fmt_http_date(at(T0 - 30));
        let timing = Timing { requested_at: at(T0), received_at: at(T0 + 4) };
        for (pairs, expected) in [
            (&[][..], 4),
            (&[("age", "50")], 54),
            (&[("date", made.as_str())], 34),
            (&[("date", made.as_str()), ("age", "50")], 54),
            (&[("date", made.as_str()), ("age", "1")], 34),
            (&[("age", "-1")], 4),
            (&[("age", "soon")], 4),
            (&[("age", "50, 7")], 54),
            (&[("age", "99999999999999")], 4 + u64::from(u32::MAX)),
        ] {
            let freshness = Freshness::of(&headers(pairs), timing, &RULES);
            assert_eq!(freshness.age(at(T0 + 4)), Duration::from_secs(expected), "{pairs:?}");
            assert_eq!(freshness.age(at(T0 + 10)), Duration::from_secs(expected + 6), "{pairs:?}");
        }
    }

    #[test]
    fn what_its_age_means() {
        let states = |value: &str, ages: &[u64]| -> Vec<State> {
            let freshness = freshness(&[("cache-control", value)], &RULES);
            ages.iter().map(|age| freshness.state(at(T0 + age))).collect()
        };
        use State::{Expired, Fresh, IfError, WhileRevalidate};
        let ages = [0, 99, 100, 109, 110, 1099, 1100];
        assert_eq!(
            states("max-age=100", &ages),
            [Fresh, Fresh, WhileRevalidate, WhileRevalidate, IfError, IfError, Expired]
        );
        let strict = [Fresh, Fresh, Expired, Expired, Expired, Expired, Expired];
        assert_eq!(states("max-age=100, must-revalidate", &ages), strict);
        assert_eq!(states("max-age=100, proxy-revalidate", &ages), strict);
        assert_eq!(states("s-maxage=100", &ages), strict);
        assert_eq!(states("no-cache", &ages[..1]), [Expired]);
        let own = "max-age=100, stale-while-revalidate=5, stale-if-error=20";
        assert_eq!(states(own, &[104, 105, 119, 120]), [WhileRevalidate, IfError, IfError, Expired]);
        assert_eq!(states("s-maxage=100, stale-while-revalidate=5", &[104, 105]), [WhileRevalidate, Expired]);
    }

    proptest! {
        #[test]
        fn states_follow_one_another_and_the_ttl_agrees(
            max_age in 0_u64..500, said in 0_u32..500, swr in 0_u64..500, sie in 0_u64..500, later in 0_u64..3000,
        ) {
            let value = format!("max-age={max_age}, stale-while-revalidate={swr}, stale-if-error={sie}");
            let freshness = freshness(&[("cache-control", &value), ("age", &said.to_string())], &RULES);
            let (now, next) = (at(T0 + later), at(T0 + later + 1));
            prop_assert!((freshness.state(now) as u8) <= freshness.state(next) as u8);
            prop_assert_eq!(freshness.state(now) == State::Fresh, freshness.ttl(now) > 0);
            prop_assert_eq!(freshness.age(now), Duration::from_secs(u64::from(said) + later));
        }
    }
}
