//! Rates and times as they are written on the command line.

use std::{str::FromStr, time::Duration};

/// How calls follow one another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// So many per second on average, as a Poisson process, whatever becomes of them. Written as a number.
    Open(f64),
    /// So many at once, each followed by the next when it has ended. Written `closed=64`.
    Closed(usize),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rate = match text.strip_prefix("closed=") {
            Some(calls) => calls.parse().ok().map(Self::Closed),
            None => text.parse().ok().map(Self::Open),
        };
        rate.ok_or_else(|| format!("{text:?} is neither calls per second nor closed=CALLS"))
    }
}

/// A number with a unit, `s` or `ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or_default(), 1.0),
    };
    let seconds = number.parse().map(|number: f64| number * unit).ok();
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| format!("{text:?} is not a time such as 10s or 500ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for nonsense in ["", "10", "s", "-1s", "1m", "NaNs"] {
            assert!(duration(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_rate_is_a_number_or_calls_at_once() {
        assert_eq!("1100".parse(), Ok(Rate::Open(1100.0)));
        assert_eq!("closed=64".parse(), Ok(Rate::Closed(64)));
        for nonsense in ["", "fast", "closed", "closed=", "closed=-1", "closed=1.5"] {
            assert!(nonsense.parse::<Rate>().is_err(), "{nonsense}");
        }
    }
}
