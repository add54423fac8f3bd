//! Pools for the tests of this crate.

use std::{sync::Arc, time::Instant};

use crate::{Ask, Backend, Backends, Desired, InFlight, Origin, PickRecord, Policy, Settings, Thresholds};

/// A pool of healthy backends and the time it was made.
pub(crate) struct Fixture {
    pub(crate) backends: Backends,
    pub(crate) now: Instant,
}

impl Fixture {
    /// Backends with these weights, in tier 0.
    pub(crate) fn weighted(weights: &[u32], settings: Settings) -> Self {
        Self::tiered(&weights.iter().map(|weight| (*weight, 0)).collect::<Vec<_>>(), settings)
    }

    /// Backends of weight 1 with a policy.
    pub(crate) fn equal(count: usize, policy: Policy) -> Self {
        Self::weighted(&vec![1; count], Settings { policy, ..Settings::default() })
    }

    /// Backends with these weights and tiers.
    pub(crate) fn tiered(of: &[(u32, u8)], settings: Settings) -> Self {
        let fixture = Self::unchecked(of, settings);
        for backend in fixture.list().iter() {
            backend.checked(Ok(()), fixture.now);
        }
        fixture
    }

    /// The same, seen by no check yet.
    pub(crate) fn unchecked(of: &[(u32, u8)], settings: Settings) -> Self {
        let now = Instant::now();
        let backends = Backends::new(Thresholds::default(), settings, now);
        let desired = of.iter().enumerate().map(|(index, (weight, tier))| Desired {
            address: format!("b{index}:1"),
            weight: *weight,
            tier: *tier,
            origin: Origin::Config,
        });
        backends.reconcile(&desired.collect::<Vec<_>>());
        Self { backends, now }
    }

    pub(crate) fn list(&self) -> Arc<[Arc<Backend>]> {
        self.backends.list()
    }

    pub(crate) fn ask(&self) -> Ask<'static> {
        Ask::at(self.now)
    }

    pub(crate) fn keyed(&self, key: u64) -> Ask<'static> {
        Ask { key: Some(crate::hash(&key.to_le_bytes())), ..self.ask() }
    }

    /// Picks without a key.
    pub(crate) fn pick(&self) -> InFlight {
        self.backends.pick(&self.ask()).unwrap()
    }

    /// Which backend a call is in flight to.
    pub(crate) fn index(&self, call: &InFlight) -> usize {
        self.list().iter().position(|backend| Arc::ptr_eq(backend, call.backend())).unwrap()
    }

    /// Picks that end at once, counted per backend.
    pub(crate) fn counts(&self, picks: u64, ask: impl Fn(u64) -> Ask<'static>) -> Vec<u64> {
        let mut counts = vec![0; self.list().len()];
        for n in 0..picks {
            counts[self.index(&self.backends.pick(&ask(n)).unwrap())] += 1;
        }
        counts
    }

    pub(crate) fn in_flight(&self) -> Vec<u64> {
        self.list().iter().map(|backend| backend.in_flight()).collect()
    }

    /// The newest record.
    pub(crate) fn last(&self) -> PickRecord {
        self.backends.recorded().swap_remove(0)
    }
}
