//! What a pick costs: nanoseconds from the ask to the guard's end, per policy and number of backends.
//!
//! `cargo bench -p weft-balance` prints a table, after a churn of 10⁶ picks that must leave all counters at zero. One
//! thread and a warm cache, with the recorder on; `two threads` shows what sharing the counters costs. The median of
//! several runs, because a virtual machine's clock is not steady.
#![allow(clippy::print_stdout)]

use std::{
    fs,
    hint::black_box,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use weft_balance::{Ask, Backends, Desired, InFlight, Origin, Policy, Settings, Thresholds};

const SIZES: [usize; 5] = [1, 4, 16, 64, 200];
const PICKS: u32 = 200_000;
const RUNS: usize = 7;
/// Runs of each of two threads while the list changes.
const CHURNS: u32 = 5;
/// Calls held while others are picked, so that counts differ.
const HELD: usize = 37;

fn main() {
    println!("{:<28}{}", "ns per pick, backends:", SIZES.map(|size| format!("{size:>8}")).concat());
    for policy in Policy::ALL {
        let settings = Settings { policy, ..Settings::default() };
        row(policy.as_str(), |size| one_thread(&pool(size, settings)));
    }
    let unrecorded = Settings { recorded_picks: 0, ..Settings::default() };
    row("least, recorder off", |size| one_thread(&pool(size, unrecorded)));
    let limited = Settings { max_in_flight: 1000, ..Settings::default() };
    row("least, max_in_flight", |size| one_thread(&pool(size, limited)));
    row("least, two tiers", |size| one_thread(&tiered(size)));
    row("least, two threads", |size| two_threads(&pool(size, Settings::default())));
    churn();
}

fn row(name: &str, measure: impl Fn(usize) -> f64) {
    println!("{name:<28}{}", SIZES.map(|size| format!("{:>8.0}", measure(size))).concat());
}

fn pool(size: usize, settings: Settings) -> Backends {
    filled(size, settings, |_| 0)
}

fn tiered(size: usize) -> Backends {
    filled(size, Settings::default(), |index| u8::from(index % 2 == 1))
}

fn filled(size: usize, settings: Settings, tier: impl Fn(usize) -> u8) -> Backends {
    let now = Instant::now();
    let backends = Backends::new(Thresholds::default(), settings, now);
    let desired: Vec<Desired> = (0..size).map(|index| desired(index, tier(index))).collect();
    backends.reconcile(&desired);
    for backend in backends.list().iter() {
        backend.checked(Ok(()), now);
    }
    backends
}

fn desired(index: usize, tier: u8) -> Desired {
    let weight = 1 + index as u32 % 3;
    Desired {
        address: format!("10.0.{}.{}:80", index / 256, index % 256),
        weight,
        tier,
        origin: Origin::Config,
    }
}

fn one_thread(backends: &Backends) -> f64 {
    let mut runs: Vec<f64> = (0..RUNS).map(|_| nanos_per_pick(backends)).collect();
    runs.sort_unstable_by(f64::total_cmp);
    runs[RUNS / 2]
}

fn nanos_per_pick(backends: &Backends) -> f64 {
    let start = Instant::now();
    let before = on_cpu(start);
    let mut held: Vec<Option<InFlight>> = (0..HELD).map(|_| None).collect();
    for n in 0..PICKS {
        // A call reads the clock anyway; this one only counts, so that the clock's own cost is not in the figure.
        let now = start + Duration::from_nanos(u64::from(n) * 500);
        let key = Some(u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        held[n as usize % HELD] = black_box(backends).pick(&Ask { tried: &[], key, now }).ok();
    }
    drop(held);
    on_cpu(start).saturating_sub(before).as_nanos() as f64 / f64::from(PICKS)
}

/// How long this thread has run, so that others on the machine do not count; where the system does not tell, the time
/// since `start`.
fn on_cpu(start: Instant) -> Duration {
    let told = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

fn two_threads(backends: &Backends) -> f64 {
    let runs = thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| one_thread(backends)));
        threads.map(|thread| thread.join().unwrap_or(f64::NAN))
    });
    runs.iter().sum::<f64>() / runs.len() as f64
}

/// 2 × 10⁶ picks on two threads while the list changes all the time: every counter ends at zero, those of backends that
/// left included.
fn churn() {
    let backends = pool(16, Settings::default());
    let start = Instant::now();
    let mut all = backends.list().to_vec();
    let mut changes = 0_usize;
    thread::scope(|scope| {
        let pick = || {
            (0..CHURNS).for_each(|_| {
                black_box(nanos_per_pick(&backends));
            });
        };
        let picks = [(); 2].map(|()| scope.spawn(pick));
        while picks.iter().any(|picks| !picks.is_finished()) {
            changes += 1;
            let stays = (0..16).filter(|index| index % 5 != changes % 5);
            backends.reconcile(&stays.map(|index| desired(index, 0)).collect::<Vec<_>>());
            // One that comes back is the one that went.
            let new = |backend: &&Arc<_>| !all.iter().any(|known| Arc::ptr_eq(known, backend));
            let new: Vec<_> = backends.list().iter().filter(new).cloned().collect();
            all.extend(new);
            thread::yield_now();
        }
    });
    let left: u64 = all.iter().map(|backend| backend.in_flight()).sum();
    let calls: u64 = all.iter().map(|backend| backend.calls()).sum();
    println!(
        "churn: {calls} calls over {changes} lists in {:.1} s, {left} left in flight",
        start.elapsed().as_secs_f64()
    );
    assert_eq!((left, calls), (0, u64::from(2 * CHURNS * PICKS)));
}
