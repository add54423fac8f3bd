//! What changes of the list, by configuration or by an operator, do with a backend.

use std::sync::atomic::Ordering;

use super::{
    Backend, Desired, MAX_WEIGHT, Origin,
    flags::{DRAINING, REFUSED},
};

impl Backend {
    pub(crate) fn set_weight(&self, weight: u32) {
        self.hot.weight.store(weight.clamp(1, MAX_WEIGHT), Ordering::Relaxed);
        self.reweighted.store(true, Ordering::Relaxed);
    }

    /// Takes weight and tier from the configuration, but for a weight that was set at run time.
    pub(crate) fn configure(&self, desired: &Desired) {
        self.hot.tier.store(desired.tier, Ordering::Relaxed);
        if !self.reweighted.load(Ordering::Relaxed) {
            self.hot.weight.store(desired.weight.clamp(1, MAX_WEIGHT), Ordering::Relaxed);
        }
    }

    /// Is listed again. What was known of its health is old; its calls in flight are not, nor what they have shown of
    /// it. An operator who adds it anew begins anew.
    pub(crate) fn comes_back(&self, desired: &Desired) {
        if desired.origin == Origin::Added {
            self.reweighted.store(false, Ordering::Relaxed);
            self.set(DRAINING, false);
        }
        self.set(REFUSED, false);
        self.configure(desired);
        self.forget_health();
    }

    pub(crate) fn set_draining(&self, draining: bool) {
        self.set(DRAINING, draining);
    }
}
