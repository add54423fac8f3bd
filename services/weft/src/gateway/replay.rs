//! `weft gateway replay`: what other balancing had done to the calls of an access log.

mod access_log;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;
use weft_balance::{
    Policy, Settings,
    simulator::{self, Report},
};

use self::access_log::Recording;
use crate::{
    cli::ReplayArguments,
    table::{Align, Cell, Table},
    terminal::{Paint, Tone},
    units,
};

/// What `--json` prints; its keys only grow.
#[derive(Debug, Serialize)]
struct Comparison {
    pool: String,
    calls: usize,
    /// From the first call to the last.
    seconds: f64,
    /// Lines of the pool that name no backend: nobody was given the call.
    unassigned: u64,
    backends: Vec<Backend>,
    /// As it was, then as it would have been.
    outcomes: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
struct Backend {
    address: String,
    weight: u32,
    /// 1 is as fast as all together.
    speed: f64,
}

#[derive(Debug, Serialize)]
struct Outcome {
    /// `recorded` or a policy.
    balance: &'static str,
    p50_ms: f64,
    p99_ms: f64,
    failed: u64,
    refused: u64,
    in_flight: f64,
    max_over_mean: f64,
    /// Of the calls, 0 to 1, in the order of the backends.
    shares: Vec<f64>,
}

/// Runs `weft gateway replay`: reads the log, replays it, and says how it went.
pub(super) fn command(arguments: &ReplayArguments, paint: Paint) -> anyhow::Result<String> {
    let recording = if arguments.file.as_os_str() == "-" {
        Recording::read(io::stdin().lock(), arguments)
    } else {
        let file = open(&arguments.file)?;
        Recording::read(BufReader::new(file), arguments)
    };
    let comparison = compare(recording?, arguments)?;
    Ok(if arguments.json { super::json(&comparison)? } else { text(&comparison, paint) })
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("open {}", path.display()))
}

fn compare(recording: Recording, arguments: &ReplayArguments) -> anyhow::Result<Comparison> {
    let weights = weights(&recording.addresses, &arguments.weights)?;
    let keyed = recording.calls.iter().any(|call| call.key.is_some());
    let trace = simulator::Trace::new(recording.calls, weights.clone());
    let mut outcomes = vec![Outcome::new("recorded", &trace.observed())];
    for policy in policies(&arguments.policies, keyed) {
        let settings = Settings { policy, max_in_flight: arguments.max_in_flight, ..Settings::default() };
        let report = simulator::replay(&trace.scenario(settings, arguments.slots), Instant::now());
        outcomes.push(Outcome::new(policy.as_str(), &report));
    }
    let named = recording.addresses.into_iter().zip(weights).zip(trace.speeds());
    Ok(Comparison {
        pool: arguments.pool.clone(),
        calls: trace.calls().len(),
        seconds: trace.calls().last().map_or(0.0, |call| call.at.as_secs_f64()),
        unassigned: recording.unassigned,
        backends: named
            .map(|((address, weight), speed)| Backend { address, weight, speed: *speed })
            .collect(),
        outcomes,
    })
}

/// Those that were asked for; else all. Without keys rendezvous would only repeat least connections.
fn policies(asked: &[Policy], keyed: bool) -> Vec<Policy> {
    if !asked.is_empty() {
        return asked.to_vec();
    }
    Policy::ALL.into_iter().filter(|policy| keyed || *policy != Policy::Rendezvous).collect()
}

/// The weight of each backend: 1 unless it is given.
fn weights(addresses: &[String], given: &[(String, u32)]) -> anyhow::Result<Vec<u32>> {
    let given: BTreeMap<&str, u32> =
        given.iter().map(|(address, weight)| (address.as_str(), *weight)).collect();
    for address in given.keys() {
        let known = addresses.iter().any(|known| known == address);
        anyhow::ensure!(known, "--weight names {address}, which served no call of the log");
    }
    Ok(addresses.iter().map(|address| given.get(address.as_str()).copied().unwrap_or(1)).collect())
}

impl Outcome {
    fn new(balance: &'static str, report: &Report) -> Self {
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        Self {
            balance,
            p50_ms: millis(report.p50),
            p99_ms: millis(report.p99),
            failed: report.errors,
            refused: report.unhealthy + report.full,
            in_flight: report.in_flight,
            max_over_mean: report.max_over_mean,
            shares: report.shares.iter().map(|share| share.share).collect(),
        }
    }
}

fn text(comparison: &Comparison, paint: Paint) -> String {
    let span = Duration::try_from_secs_f64(comparison.seconds).unwrap_or_default();
    let calls = units::counted(comparison.calls as u64, "call");
    let mut text = format!("{} · {calls} in {}\n", comparison.pool, units::elapsed(span));
    if comparison.unassigned > 0 {
        let refused = units::counted(comparison.unassigned, "call");
        text.push_str(&format!("{refused} more went to nobody and are left out\n"));
    }
    text.push('\n');
    text.push_str(&backends(comparison).render(paint));
    text.push('\n');
    text.push_str(&outcomes(comparison).render(paint));
    text
}

/// A row for each backend; its share of the calls under each policy.
fn backends(comparison: &Comparison) -> Table {
    let mut columns = vec![("backend", Align::Left), ("weight", Align::Right), ("speed", Align::Right)];
    columns.extend(comparison.outcomes.iter().map(|outcome| (outcome.balance, Align::Right)));
    let mut table = Table::new(&columns);
    for (place, backend) in comparison.backends.iter().enumerate() {
        let mut cells: Vec<Cell> = vec![
            backend.address.clone().into(),
            backend.weight.to_string().into(),
            format!("{:.2}", backend.speed).into(),
        ];
        for outcome in &comparison.outcomes {
            let share = outcome.shares.get(place).copied().unwrap_or_default();
            cells.push(format!("{:.1} %", 100.0 * share).into());
        }
        table.row(cells);
    }
    table
}

fn outcomes(comparison: &Comparison) -> Table {
    let mut table = Table::new(&[
        ("balance", Align::Left),
        ("p50", Align::Right),
        ("p99", Align::Right),
        ("failed", Align::Right),
        ("refused", Align::Right),
        ("in flight", Align::Right),
        ("max/mean", Align::Right),
    ]);
    for outcome in &comparison.outcomes {
        let tone = if outcome.balance == "recorded" { Tone::Dim } else { Tone::Plain };
        table.row(vec![
            Cell::toned(tone, outcome.balance),
            millis(outcome.p50_ms).into(),
            millis(outcome.p99_ms).into(),
            units::count(outcome.failed).into(),
            units::count(outcome.refused).into(),
            format!("{:.1}", outcome.in_flight).into(),
            format!("{:.2}", outcome.max_over_mean).into(),
        ]);
    }
    table
}

/// Finer than [`units::elapsed`]: what is compared here is often a fraction of a millisecond.
fn millis(value: f64) -> String {
    if value < 100.0 {
        format!("{value:.2} ms")
    } else {
        units::elapsed(Duration::from_secs_f64(value / 1000.0))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command, GatewayCommand};

    fn arguments(more: &[&str]) -> ReplayArguments {
        let line = [&["weft", "gateway", "replay", "-", "--pool", "chat"], more].concat();
        match Cli::parse_from(line).command {
            Command::Gateway(GatewayCommand::Replay(arguments)) => arguments,
            other => panic!("{other:?}"),
        }
    }

    /// A call every 2 ms, each backend in turn, `b:1` ten times slower.
    fn log(key: &str) -> String {
        let line = |n: u32| {
            let (backend, took) = if n.is_multiple_of(2) { ("a:1", 10.0) } else { ("b:1", 100.0) };
            let at = n * 2;
            format!(
                r#"{{"time":"2026-11-27T10:00:{:02}.{:03}Z","pool":"chat","backend":"{backend}","duration_ms":{took},"status":200,"grpc_status":0{key}}}"#,
                at / 1000,
                at % 1000
            ) + "\n"
        };
        (0..2000).map(line).collect()
    }

    fn comparison(log: &str, more: &[&str]) -> anyhow::Result<Comparison> {
        let arguments = arguments(more);
        compare(Recording::read(log.as_bytes(), &arguments)?, &arguments)
    }

    #[test]
    fn every_policy_is_compared_with_what_was() {
        let compared = comparison(&log(""), &[]).unwrap();
        let names: Vec<_> = compared.outcomes.iter().map(|outcome| outcome.balance).collect();
        assert_eq!(names, ["recorded", "least_connections", "round_robin", "peak_ewma"]);
        let slow: Vec<f64> = compared.outcomes.iter().map(|outcome| outcome.shares[1]).collect();
        assert!((slow[0] - 0.5).abs() < 0.01 && (slow[2] - 0.5).abs() < 0.01, "{slow:?}");
        assert!(slow[1] < 0.2 && slow[3] < slow[1], "{slow:?}");
        assert!(compared.outcomes[3].p50_ms < 20.0 && (compared.outcomes[0].p99_ms - 100.0).abs() < 1.0);
        let shown = text(&compared, Paint::BARE);
        assert!(shown.starts_with("chat · 2,000 calls in 4.0 s\n"), "{shown}");
        assert_eq!(shown.lines().count(), 2 + 3 + 1 + 5, "{shown}");
    }

    #[test]
    fn keys_weights_and_policies_are_taken_over() {
        let keyed = comparison(&log(r#","key":"00000000000000ff""#), &[]).unwrap();
        assert_eq!(keyed.outcomes.last().unwrap().balance, "rendezvous");
        let weighted = comparison(&log(""), &["--balance", "round_robin", "--weight", "a:1=3"]).unwrap();
        let shares: Vec<_> = weighted.outcomes.iter().map(|outcome| outcome.shares[0]).collect();
        assert!(shares.len() == 2 && (shares[1] - 0.75).abs() < 0.01, "{shares:?}");
        let unknown = comparison(&log(""), &["--weight", "c:1=3"]).unwrap_err();
        assert!(unknown.to_string().contains("c:1"), "{unknown}");
    }

    #[test]
    fn a_program_reads_stable_keys() {
        let json: serde_json::Value =
            serde_json::to_value(comparison(&log(""), &["--balance", "peak_ewma"]).unwrap()).unwrap();
        assert_eq!((&json["calls"], &json["backends"][1]["address"]), (&2000.into(), &"b:1".into()));
        assert_eq!(json["outcomes"][1]["balance"], "peak_ewma");
    }
}
