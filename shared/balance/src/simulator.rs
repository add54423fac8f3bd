//! Replays a trace of calls in simulated time against made-up backends, through the very same pick that serves.
//!
//! For tests, and for an operator who asks what another policy or weight had done to yesterday's calls. A replay is the
//! same every time: nothing sleeps, no clock is read, and chance is seeded by the tickets of the picks.
//!
//! The backends are simple. A call takes its service time / the backend's speed. With `slots`, only that many calls
//! are served at a time and the others wait in line, so that latency rises with load as it does in life. A change
//! concerns calls whose service begins after it. There are no health checks: a backend is well until a
//! [`Change::Down`] says otherwise.

mod machine;
mod measure;
mod trace;

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::Arc,
    time::{Duration, Instant},
};

pub use self::{
    machine::{Change, Machine},
    measure::{Report, Share},
    trace::{Served, Trace},
};
use self::{
    machine::{Ending, Server},
    measure::Measure,
};
use crate::{
    Ask, Backend, Backends, Desired, Health, InFlight, Origin, Outcome, Refusal, Settings, Thresholds,
    verdict::PENALTY,
};

/// A call of the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// When it comes, from the start. A trace is in this order.
    pub at: Duration,
    /// How long a backend of speed 1 takes to answer it.
    pub service: Duration,
    /// What [`Policy::Rendezvous`](crate::Policy::Rendezvous) goes by.
    pub key: Option<u64>,
    /// Whether it fails wherever it goes.
    pub fails: bool,
}

/// What is replayed.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How the pool balances.
    pub settings: Settings,
    /// Its backends.
    pub machines: Vec<Machine>,
    /// The calls, by time.
    pub arrivals: Vec<Arrival>,
    /// How long a call waits for its answer before it fails.
    pub timeout: Duration,
    /// Calls that come earlier are replayed but not reported.
    pub warm_up: Duration,
}

/// Something that happens at a time; of several at one time, the first made.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Change { machine: usize, change: usize },
    End { call: usize },
    Timeout { call: usize },
    Arrive { call: usize },
}

/// A call that was given to a machine.
struct Running {
    guard: InFlight,
    machine: usize,
    ending: Option<Ending>,
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    backends: Backends,
    start: Instant,
    servers: Vec<Server>,
    /// Which machines are listed.
    listed: Vec<bool>,
    /// All backends that there have been.
    seen: Vec<Arc<Backend>>,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    made: u64,
    running: Vec<Option<Running>>,
    measure: Measure,
}

/// Replays a scenario. `start` is only a point to count from; any time will do.
#[must_use]
pub fn replay(scenario: &Scenario, start: Instant) -> Report {
    let mut simulation = Simulation::new(scenario, start);
    simulation.prepare();
    while let Some(Reverse((at, _, event))) = simulation.events.pop() {
        simulation.measure.pass(at, &simulation.backends.list());
        simulation.happen(at, &event);
    }
    let left = simulation.seen.iter().map(|backend| backend.in_flight()).sum();
    simulation.measure.report(left)
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario, start: Instant) -> Self {
        let backends = Backends::new(Thresholds::default(), scenario.settings, start);
        let last = scenario.arrivals.last().map_or(Duration::ZERO, |arrival| arrival.at);
        Self {
            scenario,
            backends,
            start,
            servers: scenario.machines.iter().map(Server::new).collect(),
            listed: vec![true; scenario.machines.len()],
            seen: Vec::new(),
            events: BinaryHeap::new(),
            made: 0,
            running: scenario.arrivals.iter().map(|_| None).collect(),
            measure: Measure::new(scenario.machines.len(), scenario.warm_up, last),
        }
    }

    fn prepare(&mut self) {
        self.list(Duration::ZERO);
        for (machine, of) in self.scenario.machines.iter().enumerate() {
            for (change, (at, _)) in of.changes.iter().enumerate() {
                self.schedule(*at, Event::Change { machine, change });
            }
        }
        if let Some(first) = self.scenario.arrivals.first() {
            self.schedule(first.at, Event::Arrive { call: 0 });
        }
    }

    /// Lists the machines that are to be listed. Those that come are well.
    fn list(&mut self, at: Duration) {
        let desired = |(index, machine): (usize, &Machine)| Desired {
            address: address(index),
            weight: machine.weight,
            tier: machine.tier,
            origin: Origin::Config,
        };
        let machines = self.scenario.machines.iter().enumerate().filter(|(index, _)| self.listed[*index]);
        self.backends.reconcile(&machines.map(desired).collect::<Vec<_>>());
        for backend in self.backends.list().iter() {
            if backend.health() == Health::Unknown {
                backend.checked(Ok(()), self.start + at);
            }
            if !self.seen.iter().any(|seen| Arc::ptr_eq(seen, backend)) {
                self.seen.push(Arc::clone(backend));
            }
        }
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.made += 1;
        self.events.push(Reverse((at, self.made, event)));
    }

    fn happen(&mut self, at: Duration, event: &Event) {
        match *event {
            Event::Change { machine, change } => self.change(at, machine, change),
            Event::Arrive { call } => self.arrive(at, call),
            Event::End { call } => self.end(at, call),
            Event::Timeout { call } => self.time_out(at, call),
        }
    }

    fn change(&mut self, at: Duration, machine: usize, change: usize) {
        let (_, change) = self.scenario.machines[machine].changes[change];
        self.servers[machine].change(change);
        if matches!(change, Change::Listed | Change::Unlisted) {
            self.listed[machine] = change == Change::Listed;
            return self.list(at);
        }
        let Some(backend) = self.backends.get(&address(machine)) else { return };
        match change {
            Change::Down => drop(backend.mark_down("simulated", self.start + at)),
            Change::Up => drop(backend.checked(Ok(()), self.start + at)),
            Change::Weight(weight) => drop(self.backends.set_weight(backend.address(), weight)),
            Change::Speed(_) | Change::FailFast(_) | Change::Hang | Change::Well => {}
            Change::Listed | Change::Unlisted => {}
        }
    }

    fn arrive(&mut self, at: Duration, call: usize) {
        if let Some(next) = self.scenario.arrivals.get(call + 1) {
            self.schedule(next.at.max(at), Event::Arrive { call: call + 1 });
        }
        let ask = Ask { tried: &[], key: self.scenario.arrivals[call].key, now: self.start + at };
        let guard = match self.backends.pick(&ask) {
            Ok(guard) => guard,
            Err(refusal) => return self.measure.refused(at, refusal == Refusal::Full),
        };
        let Some(machine) = index(guard.backend().address()) else { return };
        self.running[call] = Some(Running { guard, machine, ending: None });
        self.measure.picked(at, machine);
        self.schedule(at + self.scenario.timeout, Event::Timeout { call });
        if self.servers[machine].admit(call) {
            self.serve(at, machine, call);
        }
    }

    /// The machine begins to work on a call.
    fn serve(&mut self, at: Duration, machine: usize, call: usize) {
        let arrival = &self.scenario.arrivals[call];
        let Some((took, ending)) = self.servers[machine].serve(arrival) else { return };
        if let Some(running) = &mut self.running[call] {
            running.ending = Some(ending);
            self.schedule(at + took, Event::End { call });
        }
    }

    fn end(&mut self, at: Duration, call: usize) {
        // Gone if it timed out.
        let Some(Running { guard, machine, ending: Some(ending) }) = self.running[call].take() else {
            return;
        };
        let now = self.start + at;
        match ending {
            Ending::Answered => {
                guard.first_byte(now);
                guard.record(Outcome::Success);
            }
            Ending::Failed => {
                guard.failed(PENALTY, now);
                guard.record(Outcome::Failure);
            }
        }
        drop(guard);
        let came = self.scenario.arrivals[call].at;
        self.measure.ended(came, at, machine, ending == Ending::Failed);
        self.free(at, machine, call);
    }

    fn time_out(&mut self, at: Duration, call: usize) {
        let Some(Running { guard, machine, .. }) = self.running[call].take() else { return };
        guard.failed(PENALTY, self.start + at);
        guard.record(Outcome::Failure);
        drop(guard);
        self.measure.ended(self.scenario.arrivals[call].at, at, machine, true);
        self.free(at, machine, call);
    }

    /// A call left its machine, which takes the next one.
    fn free(&mut self, at: Duration, machine: usize, call: usize) {
        if let Some(next) = self.servers[machine].leave(call) {
            self.serve(at, machine, next);
        }
    }
}

fn address(machine: usize) -> String {
    format!("machine-{machine}:1")
}

fn index(address: &str) -> Option<usize> {
    address.strip_prefix("machine-")?.strip_suffix(":1")?.parse().ok()
}

#[cfg(test)]
mod tests;
