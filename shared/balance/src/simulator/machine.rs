//! A made-up backend: how fast it is, and what befalls it.

use std::{collections::VecDeque, time::Duration};

use super::Arrival;

/// A backend of a scenario.
#[derive(Clone, Debug)]
pub struct Machine {
    /// As configured.
    pub weight: u32,
    /// Its priority.
    pub tier: u8,
    /// How fast it is; 2 takes half of the service time.
    pub speed: f64,
    /// How many calls it serves at a time; the others wait. 0 for no limit.
    pub slots: usize,
    /// What befalls it, from the start.
    pub changes: Vec<(Duration, Change)>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { weight: 1, tier: 0, speed: 1.0, slots: 0, changes: Vec::new() }
    }
}

/// What befalls a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// It is that fast from now on; 0.1 is ten times slower than 1.
    Speed(f64),
    /// Every call fails after that time.
    FailFast(Duration),
    /// No call ends by itself.
    Hang,
    /// It serves again.
    Well,
    /// It is found to be down.
    Down,
    /// A check finds it well.
    Up,
    /// An operator sets its weight.
    Weight(u32),
    /// It leaves the pool's list; its calls go on.
    Unlisted,
    /// It is listed again, and found to be well.
    Listed,
}

/// How a call ends that ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Answered,
    Failed,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Serves,
    Fails(Duration),
    Hangs,
}

/// A machine at work.
#[derive(Debug)]
pub(super) struct Server {
    speed: f64,
    slots: usize,
    mode: Mode,
    serving: usize,
    waiting: VecDeque<usize>,
}

impl Server {
    pub(super) fn new(machine: &Machine) -> Self {
        Self {
            speed: machine.speed,
            slots: machine.slots,
            mode: Mode::Serves,
            serving: 0,
            waiting: VecDeque::new(),
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Speed(speed) => self.speed = speed,
            Change::FailFast(after) => self.mode = Mode::Fails(after),
            Change::Hang => self.mode = Mode::Hangs,
            Change::Well => self.mode = Mode::Serves,
            Change::Down | Change::Up | Change::Weight(_) | Change::Unlisted | Change::Listed => {}
        }
    }

    /// Takes a call. Returns whether it is served at once.
    pub(super) fn admit(&mut self, call: usize) -> bool {
        if self.slots == 0 || self.serving < self.slots {
            self.serving += 1;
            return true;
        }
        self.waiting.push_back(call);
        false
    }

    /// How long a call takes whose service begins now, and how it ends; `None` if it never does.
    pub(super) fn serve(&self, arrival: &Arrival) -> Option<(Duration, Ending)> {
        match self.mode {
            Mode::Hangs => None,
            Mode::Fails(after) => Some((after, Ending::Failed)),
            Mode::Serves => {
                let took = arrival.service.div_f64(self.speed.max(1e-6));
                Some((took, if arrival.fails { Ending::Failed } else { Ending::Answered }))
            }
        }
    }

    /// A call is gone. Returns the one whose turn it is.
    pub(super) fn leave(&mut self, call: usize) -> Option<usize> {
        if let Some(place) = self.waiting.iter().position(|waiting| *waiting == call) {
            self.waiting.remove(place);
            return None;
        }
        let next = self.waiting.pop_front();
        if next.is_none() {
            self.serving -= 1;
        }
        next
    }
}
