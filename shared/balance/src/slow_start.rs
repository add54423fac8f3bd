//! Slow start: a backend that returns gets its full share only after a while, so that cold caches, lazy connections and
//! a just loaded model are not met by a burst.

use std::time::Duration;

use crate::settings::SlowStart;

impl SlowStart {
    /// The factor on the weight of a backend that returned that long ago; `None` when its warm-up is over.
    ///
    /// `max(min, (since / window) ^ (1 / aggression))`, as Envoy's `slow_start_config` has it.
    #[must_use]
    pub fn factor(&self, since: Duration) -> Option<f64> {
        if since >= self.window {
            return None;
        }
        let share = since.as_secs_f64() / self.window.as_secs_f64();
        let straight = (self.aggression - 1.0).abs() < f64::EPSILON || self.aggression <= 0.0;
        let risen = if straight { share } else { share.powf(self.aggression.recip()) };
        // A weight of nothing would be a division by zero.
        Some(risen.max(self.min.clamp(0.001, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn near(factor: Option<f64>, expected: f64) -> bool {
        factor.is_some_and(|factor| (factor - expected).abs() < 1e-9)
    }

    #[test]
    fn the_factor_follows_the_formula() {
        let default = SlowStart::default();
        assert!(near(default.factor(Duration::ZERO), 0.1));
        assert!(near(default.factor(SECOND), 0.1), "a 30th is below the least");
        assert!(near(default.factor(15 * SECOND), 0.5));
        assert_eq!(default.factor(30 * SECOND), None);
        let quick = SlowStart { aggression: 2.0, ..default };
        assert!(near(quick.factor(SECOND * 30 / 4), 0.5));
        let off = SlowStart { window: Duration::ZERO, ..default };
        assert_eq!(off.factor(Duration::ZERO), None);
    }

    proptest! {
        #[test]
        fn it_only_rises_and_stays_within_bounds(a in 0_u64..40_000, b in 0_u64..40_000, aggression in 0.1_f64..4.0, min in 0.0_f64..1.0) {
            let slow = SlowStart { min, aggression, ..SlowStart::default() };
            let at = |millis| slow.factor(Duration::from_millis(millis)).unwrap_or(1.0);
            let (early, late) = (at(a.min(b)), at(a.max(b)));
            prop_assert!(early <= late && early >= min && late <= 1.0);
        }
    }
}
