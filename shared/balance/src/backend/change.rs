//! What changes of the list, by configuration or by an operator, do with a backend.

use std::sync::atomic::Ordering;

use super::{Backend, Desired, MAX_WEIGHT, flags::DRAINING};

impl Backend {
    pub(crate) fn set_weight(&self, weight: u32) {
        self.hot.weight.store(weight.clamp(1, MAX_WEIGHT), Ordering::Relaxed);
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Takes weight and tier from the configuration, but for a weight that was set at run time.
    pub(crate) fn configure(&self, desired: &Desired) {
        self.hot.tier.store(desired.tier, Ordering::Relaxed);
        if !self.changed() {
            self.hot.weight.store(desired.weight.clamp(1, MAX_WEIGHT), Ordering::Relaxed);
        }
    }

    pub(crate) fn set_draining(&self, draining: bool) {
        self.set(DRAINING, draining);
        self.changed.store(true, Ordering::Relaxed);
    }
}
