//! How a pool spreads its calls, and when it gives up on a backend or on a call.

use std::{collections::BTreeSet, time::Duration};

use http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, Serialize};
use weft_balance::{
    Policy, outlier,
    retry::{self, Backoff},
    verdict::Code,
};
use weft_mesh::pool::{BudgetLimits, Waiting};
use weft_runtime::config::duration;

/// How a pool chooses among its backends. All policies honour weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The least `(in_flight + 1) / weight`.
    #[default]
    LeastConnections,
    /// In turn.
    RoundRobin,
    /// The least expected wait, by a peak-sensitive average of the time to first byte.
    PeakEwma,
    /// The same backend for the same `hash_on`, while it has no more than its share.
    Rendezvous,
}

impl From<Balance> for Policy {
    fn from(balance: Balance) -> Self {
        match balance {
            Balance::LeastConnections => Self::LeastConnections,
            Balance::RoundRobin => Self::RoundRobin,
            Balance::PeakEwma => Self::PeakEwma,
            Balance::Rendezvous => Self::Rendezvous,
        }
    }
}

/// What keeps calls together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HashOn {
    /// A header, or gRPC metadata.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
}

impl HashOn {
    /// `header:<name>` or `cookie:<name>`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("header", name) => name.parse().ok().map(Self::Header),
            ("cookie", name) if !name.is_empty() => Some(Self::Cookie(name.to_owned())),
            _ => None,
        }
    }

    /// Its value in a request.
    pub(crate) fn value<'a>(&self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        match self {
            Self::Header(name) => headers.get(name).map(|value| value.as_bytes()),
            Self::Cookie(name) => headers
                .get_all(header::COOKIE)
                .iter()
                .filter_map(|value| value.to_str().ok())
                .flat_map(|cookies| cookies.split(';'))
                .filter_map(|cookie| cookie.trim().split_once('='))
                .find(|(cookie, _)| cookie == name)
                .map(|(_, value)| value.as_bytes()),
        }
    }
}

/// How a backend that returns is warmed up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlowStart {
    /// How long its share rises. Default 30 s; `0s` turns it off.
    #[serde(with = "duration")]
    pub window: Duration,
    /// The share it begins with, in percent. Default 10.
    pub min_percent: u8,
    /// Above 1 it rises quickly first, below 1 slowly first. Default 1: a straight line.
    pub aggression: f64,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self { window: Duration::from_secs(30), min_percent: 10, aggression: 1.0 }
    }
}

/// When backends that fail their checks are better than none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Panic {
    /// The share of available backends, in percent, below which it begins. Default 50; 0 turns it off.
    pub threshold_percent: u8,
    /// The fewest backends a pool must have. Default 4: smaller ones fail fast.
    pub min_backends: usize,
}

impl Default for Panic {
    fn default() -> Self {
        Self { threshold_percent: 50, min_backends: 4 }
    }
}

/// When a backend is ejected for how calls to it end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outlier {
    /// Failures in a row; 0 turns this off. Default 5.
    pub consecutive_failures: u32,
    /// The success rate, in percent, below which it is ejected; 0 turns this off. Default 80.
    pub success_rate_percent: u8,
    /// Calls within the window below which the rate says nothing. Default 20.
    pub min_calls: u32,
    /// The window of the rate. Default 10 s.
    #[serde(with = "duration")]
    pub window: Duration,
    /// How long the first ejection takes; the nth in close succession takes n times as long. Default 5 s.
    #[serde(with = "duration")]
    pub base_ejection: Duration,
    /// The longest. Default 60 s.
    #[serde(with = "duration")]
    pub max_ejection: Duration,
    /// The most backends that are out at a time, in percent; one of two or more may always be, the last one never.
    /// Default 50.
    pub max_ejected_percent: u8,
}

impl Default for Outlier {
    fn default() -> Self {
        let defaults = outlier::Settings::default();
        Self {
            consecutive_failures: defaults.consecutive_failures,
            success_rate_percent: 80,
            min_calls: defaults.min_calls,
            window: defaults.window,
            base_ejection: defaults.base_ejection,
            max_ejection: defaults.max_ejection,
            max_ejected_percent: 50,
        }
    }
}

/// When a call is sent again. Calls that were certainly not executed always are, apart from this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// Attempts at an idempotent call, 1 to 5. Default 3.
    pub max_attempts: u32,
    /// gRPC codes after which it is sent again, besides failures of the transport. Default `["UNAVAILABLE"]`.
    pub codes: BTreeSet<String>,
    /// How long an attempt at it may take to answer with its first byte, before the backend is blamed and another one
    /// asked: what saves calls from a backend that hangs. `0s` for any time, the default: no number suits all methods.
    #[serde(with = "duration")]
    pub per_try_timeout: Duration,
    /// The longest first wait; doubles each time, and each wait is drawn from nothing to it. Default 25 ms.
    #[serde(with = "duration")]
    pub backoff: Duration,
    /// The longest wait. Default 250 ms.
    #[serde(with = "duration")]
    pub max_backoff: Duration,
    /// Repetitions in flight, in percent of the calls in flight. Default 20.
    pub budget_percent: u32,
    /// Repetitions in flight in any case. Default 3.
    pub budget_min: u32,
}

impl Default for Retry {
    fn default() -> Self {
        let (backoff, budget) = (Backoff::default(), BudgetLimits::default());
        Self {
            max_attempts: 3,
            codes: BTreeSet::from(["UNAVAILABLE".to_owned()]),
            per_try_timeout: Duration::ZERO,
            backoff: backoff.base,
            max_backoff: backoff.max,
            budget_percent: budget.percent,
            budget_min: budget.least,
        }
    }
}

impl Retry {
    pub(crate) fn policy(&self) -> retry::Policy {
        retry::Policy {
            max_attempts: self.max_attempts,
            codes: self.codes.iter().filter_map(|name| code(name)).collect(),
            on_transport_failure: true,
            per_try_timeout: Some(self.per_try_timeout).filter(|limit| !limit.is_zero()),
            backoff: Backoff { base: self.backoff, max: self.max_backoff },
        }
    }

    pub(crate) const fn budget(&self) -> BudgetLimits {
        BudgetLimits { percent: self.budget_percent, least: self.budget_min }
    }
}

/// A gRPC code by its name.
pub(super) fn code(name: &str) -> Option<Code> {
    Code::ALL.into_iter().find(|code| code.as_str() == name)
}

impl super::Pool {
    /// How its calls are spread.
    pub(crate) fn balance_settings(&self) -> weft_balance::Settings {
        let percent = |percent: u8| f64::from(percent) / 100.0;
        let (slow, panic, outlier) = (&self.slow_start, &self.panic, &self.outlier);
        weft_balance::Settings {
            policy: self.balance.into(),
            slow_start: weft_balance::SlowStart {
                window: slow.window,
                min: percent(slow.min_percent),
                aggression: slow.aggression,
            },
            max_in_flight: self.max_in_flight,
            outlier: outlier::Settings {
                consecutive_failures: outlier.consecutive_failures,
                success_rate_below: percent(outlier.success_rate_percent),
                min_calls: outlier.min_calls,
                window: outlier.window,
                base_ejection: outlier.base_ejection,
                max_ejection: outlier.max_ejection,
                max_ejected_percent: outlier.max_ejected_percent.into(),
            },
            panic: weft_balance::Panic {
                threshold: percent(panic.threshold_percent),
                min_backends: panic.min_backends,
            },
            bounded_load: self.hash_balance_factor,
            overprovisioning: self.overprovisioning_factor,
            recorded_picks: self.recorded_picks,
        }
    }

    /// How its calls wait.
    pub(crate) const fn waiting(&self) -> Waiting {
        Waiting { limit: self.max_waiting, time: self.max_wait }
    }
}
