//! How a pool balances: the policy and its numbers.

use std::time::Duration;

use crate::outlier;

/// Which of the backends that may take a call gets it. All honour weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The least `(in_flight + foreign + 1) / weight`, exactly up to 64 backends and the better of two above.
    #[default]
    LeastConnections,
    /// In turn, a backend of weight 3 three times as often as one of weight 1, spread evenly over the round.
    RoundRobin,
    /// The least expected wait: peak-sensitive average of the time to first byte × `(in_flight + foreign + 1) / weight`.
    PeakEwma,
    /// The same backend for the same key, while it has no more than its share (and a little): rendezvous hashing with
    /// bounded load. A call without a key goes by least connections.
    Rendezvous,
}

impl Policy {
    /// The policies, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::LeastConnections, Self::RoundRobin, Self::PeakEwma, Self::Rendezvous];

    /// Its name as configuration and records have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LeastConnections => "least_connections",
            Self::RoundRobin => "round_robin",
            Self::PeakEwma => "peak_ewma",
            Self::Rendezvous => "rendezvous",
        }
    }
}

/// How a backend that returns is warmed up: its share of the picks, and its `max_in_flight`, rise over a window. In that
/// share of the picks it takes part with its whole weight, in the others with as much of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// How long it takes. Default 30 s; zero turns it off.
    pub window: Duration,
    /// The share of the weight it begins with, 0 to 1. Default 0.1.
    pub min: f64,
    /// Above 1 it rises quickly first, below 1 slowly first. Default 1.0: a straight line.
    pub aggression: f64,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self { window: Duration::from_secs(30), min: 0.1, aggression: 1.0 }
    }
}

/// When a backend that is known to be ill is better than none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Panic {
    /// The share of available backends, 0 to 1, below which it begins. Default 0.5; 0 turns it off.
    pub threshold: f64,
    /// The fewest backends a pool must have. Default 4: where one of two fails, calls fail fast instead.
    pub min_backends: usize,
}

impl Default for Panic {
    fn default() -> Self {
        Self { threshold: 0.5, min_backends: 4 }
    }
}

/// A pool's balancing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Default: least connections.
    pub policy: Policy,
    /// The warm-up of returning backends.
    pub slow_start: SlowStart,
    /// The most calls in flight to a backend. Default 0: no limit.
    pub max_in_flight: u64,
    /// When backends are taken out for how calls to them end.
    pub outlier: outlier::Settings,
    /// When ill backends are used.
    pub panic: Panic,
    /// With [`Policy::Rendezvous`], how much more than its share a backend may have in flight. Default 1.25; below 1
    /// counts as 1.
    pub bounded_load: f64,
    /// How much more than its normal load a tier can take: it keeps all calls until fewer than `1 / overprovisioning`
    /// of its backends are available. Default 1.4; below 1 counts as 1.
    pub overprovisioning: f64,
    /// How many picks the flight recorder keeps, rounded up to a power of two. Default 256; 0 turns it off.
    pub recorded_picks: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            slow_start: SlowStart::default(),
            max_in_flight: 0,
            outlier: outlier::Settings::default(),
            panic: Panic::default(),
            bounded_load: 1.25,
            overprovisioning: 1.4,
            recorded_picks: 256,
        }
    }
}
