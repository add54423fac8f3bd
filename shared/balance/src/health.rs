//! Health from check results: rise and fall thresholds, and a way down that needs no check.

/// Whether a backend may be given calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// No check has finished yet.
    Unknown = 0,
    /// In rotation.
    Healthy = 1,
    /// Out of rotation.
    Unhealthy = 2,
}

impl Health {
    pub(crate) const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Healthy,
            2 => Self::Unhealthy,
            _ => Self::Unknown,
        }
    }
}

/// How many equal results in a row change the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Passed checks that bring an unhealthy backend back, at least 1.
    pub healthy: u32,
    /// Failed checks that take a healthy backend out, at least 1.
    pub unhealthy: u32,
}

impl Default for Thresholds {
    /// 2 and 2.
    fn default() -> Self {
        Self { healthy: 2, unhealthy: 2 }
    }
}

/// The state of one backend's checks.
///
/// The first result decides, and a backend that has never been healthy is admitted by its first passed check; after
/// that the thresholds do. [`mark_down`](Self::mark_down) takes a backend out at once,
/// and then a single passed check brings it back: a refused connection is certain, and so is its end.
#[derive(Clone, Debug)]
pub struct HealthMachine {
    thresholds: Thresholds,
    state: Health,
    streak: u32,
    rise: u32,
}

impl HealthMachine {
    /// Starts unknown. Thresholds of 0 count as 1.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        let thresholds =
            Thresholds { healthy: thresholds.healthy.max(1), unhealthy: thresholds.unhealthy.max(1) };
        Self { thresholds, state: Health::Unknown, streak: 0, rise: thresholds.healthy }
    }

    /// Takes other thresholds, from the next result on. The state stays.
    pub fn configure(&mut self, thresholds: Thresholds) {
        let sure = self.rise < self.thresholds.healthy;
        self.thresholds = Self::new(thresholds).thresholds;
        if !sure {
            self.rise = self.thresholds.healthy;
        }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> Health {
        self.state
    }

    /// A check passed. Returns the new state if it changed.
    pub fn passed(&mut self) -> Option<Health> {
        match self.state {
            Health::Unknown => self.enter(Health::Healthy),
            Health::Healthy => {
                self.streak = 0;
                None
            }
            Health::Unhealthy => {
                self.streak += 1;
                if self.streak >= self.rise { self.enter(Health::Healthy) } else { None }
            }
        }
    }

    /// A check failed. Returns the new state if it changed.
    pub fn failed(&mut self) -> Option<Health> {
        match self.state {
            Health::Unknown => {
                let change = self.enter(Health::Unhealthy);
                self.rise = 1;
                change
            }
            Health::Healthy => {
                self.streak += 1;
                if self.streak >= self.thresholds.unhealthy { self.enter(Health::Unhealthy) } else { None }
            }
            Health::Unhealthy => {
                self.streak = 0;
                None
            }
        }
    }

    /// A connection failed, or the backend said that it stops serving.
    pub fn mark_down(&mut self) -> Option<Health> {
        let change = (self.state != Health::Unhealthy).then_some(Health::Unhealthy);
        self.state = Health::Unhealthy;
        self.streak = 0;
        if change.is_some() {
            self.rise = 1;
        }
        change
    }

    /// Starts anew.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(self.thresholds);
    }

    /// Nobody checks this backend.
    pub fn assume_healthy(&mut self) -> Option<Health> {
        (self.state != Health::Healthy).then(|| self.enter(Health::Healthy)).flatten()
    }

    fn enter(&mut self, state: Health) -> Option<Health> {
        self.state = state;
        self.streak = 0;
        self.rise = self.thresholds.healthy;
        Some(state)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(thresholds: Thresholds, results: &str) -> Health {
        let mut machine = HealthMachine::new(thresholds);
        for result in results.chars() {
            match result {
                '+' => machine.passed(),
                '-' => machine.failed(),
                _ => machine.mark_down(),
            };
        }
        machine.state()
    }

    #[test]
    fn the_first_result_decides_and_thresholds_decide_after_it() {
        let two = Thresholds::default();
        assert_eq!(run(two, ""), Health::Unknown);
        assert_eq!(run(two, "+"), Health::Healthy);
        assert_eq!(run(two, "-"), Health::Unhealthy);
        assert_eq!(run(two, "+-"), Health::Healthy);
        assert_eq!(run(two, "+-+-"), Health::Healthy);
        assert_eq!(run(two, "+--"), Health::Unhealthy);
        assert_eq!(run(two, "--+"), Health::Healthy, "it was only starting");
        assert_eq!(run(two, "+--+"), Health::Unhealthy);
        assert_eq!(run(two, "+--+-+"), Health::Unhealthy);
        assert_eq!(run(two, "+--++"), Health::Healthy);
    }

    #[test]
    fn a_backend_marked_down_returns_after_one_passed_check() {
        let two = Thresholds::default();
        assert_eq!(run(two, "+!"), Health::Unhealthy);
        assert_eq!(run(two, "+!+"), Health::Healthy);
        assert_eq!(run(two, "+!-+"), Health::Healthy);
        assert_eq!(run(two, "+--!+"), Health::Unhealthy, "it was down by checks before");
    }

    proptest! {
        /// Against the definition: the state is the last one that a long enough run of equal results asked for.
        #[test]
        fn thresholds_match_the_definition(rise in 1_u32..5, fall in 1_u32..5, results in "[+][+-]{0,40}") {
            let mut expected = Health::Healthy;
            let mut run_length = 0;
            let mut previous = ' ';
            for result in results.chars().skip(1) {
                let against = matches!((expected, result), (Health::Healthy, '-') | (Health::Unhealthy, '+'));
                run_length = if against { if result == previous { run_length + 1 } else { 1 } } else { 0 };
                previous = if against { result } else { ' ' };
                let needed = if expected == Health::Healthy { fall } else { rise };
                if run_length >= needed {
                    expected = if result == '+' { Health::Healthy } else { Health::Unhealthy };
                    run_length = 0;
                    previous = ' ';
                }
            }
            prop_assert_eq!(run(Thresholds { healthy: rise, unhealthy: fall }, &results), expected);
        }
    }
}
