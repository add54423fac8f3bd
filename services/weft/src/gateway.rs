//! `weft gateway`: the pools behind the gateway, and what may be changed about them while it runs.

mod explain;
mod replay;

use std::process::ExitCode;

use serde::Serialize;
use weft_proto::gateway::v1 as pb;

use crate::{
    cli::{BackendArguments, GatewayCommand},
    session::Session,
    status::health,
    table::{Align, Cell, Table},
    terminal::{self, Paint, Tone, printable},
    units,
};

/// One pool, as `--json` prints it; its keys only grow.
#[derive(Debug, Serialize)]
struct Pool {
    pool: String,
    protocol: String,
    balance: String,
    backends: Vec<Backend>,
}

/// One backend.
#[derive(Debug, Serialize)]
struct Backend {
    address: String,
    weight: u32,
    health: &'static str,
    draining: bool,
    in_flight: u64,
    calls: u64,
    failures: u64,
    origin: &'static str,
    /// Why it is unhealthy.
    last_error: Option<String>,
    ejection: &'static str,
    tier: u32,
}

/// Runs `weft gateway …`.
pub(crate) async fn command(session: &Session, command: &GatewayCommand) -> anyhow::Result<ExitCode> {
    let admin = || session.admin();
    let text = match command {
        GatewayCommand::Pools(arguments) => {
            let pools: Vec<Pool> = admin().await?.pools().await?.into_iter().map(Pool::from).collect();
            if arguments.json { json(&pools)? } else { table(&pools, session.out) }
        }
        GatewayCommand::Explain { pool, limit, json: as_json } => {
            let picks = explain::Pick::all(admin().await?.picks(pool, *limit).await?);
            if *as_json { json(&picks)? } else { explain::text(&picks, session.out) }
        }
        // Asks no gateway: the log may be yesterday's, from elsewhere.
        GatewayCommand::Replay(arguments) => replay::command(arguments, session.out)?,
        GatewayCommand::Remove(which) => {
            admin().await?.remove_backend(&which.pool, &which.address).await?;
            if which.json { String::new() } else { format!("{} is out of {}\n", which.address, which.pool) }
        }
        GatewayCommand::Drain(which) => {
            changed(which, admin().await?.drain(&which.pool, &which.address).await?, session.out)?
        }
        GatewayCommand::Undrain(which) => {
            changed(which, admin().await?.undrain(&which.pool, &which.address).await?, session.out)?
        }
        GatewayCommand::Weight { backend: which, weight } => {
            let backend = admin().await?.set_weight(&which.pool, &which.address, *weight).await?;
            changed(which, backend, session.out)?
        }
        GatewayCommand::Add { backend: which, weight } => {
            let backend = admin().await?.add_backend(&which.pool, &which.address, *weight).await?;
            changed(which, backend, session.out)?
        }
    };
    terminal::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A backend as it stands after a change.
fn changed(which: &BackendArguments, backend: pb::Backend, paint: Paint) -> serde_json::Result<String> {
    let backend = Backend::from(backend);
    if which.json {
        return json(&backend);
    }
    let mut table = heading();
    table.row(row(&which.pool, &backend));
    Ok(table.render(paint))
}

fn json(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

fn table(pools: &[Pool], paint: Paint) -> String {
    let mut table = heading();
    for pool in pools {
        if pool.backends.is_empty() {
            table.row(vec![pool.pool.clone().into(), Cell::toned(Tone::Warn, "no backends")]);
        }
        for (place, backend) in pool.backends.iter().enumerate() {
            table.row(row(if place == 0 { &pool.pool } else { "" }, backend));
        }
    }
    table.render(paint)
}

fn heading() -> Table {
    Table::new(&[
        ("pool", Align::Left),
        ("backend", Align::Left),
        ("weight", Align::Right),
        ("health", Align::Left),
        ("draining", Align::Left),
        ("in flight", Align::Right),
        ("calls", Align::Right),
        ("failures", Align::Right),
        ("origin", Align::Left),
        ("last error", Align::Left),
    ])
}

fn row(pool: &str, backend: &Backend) -> Vec<Cell> {
    // Of a healthy backend that gets no calls, that is what matters.
    let state = match (backend.health, backend.ejection) {
        (health, "none") | (health @ "unhealthy", _) => health,
        (_, ejection) => ejection,
    };
    let tone = match state {
        "healthy" => Tone::Good,
        "unhealthy" => Tone::Bad,
        _ => Tone::Warn,
    };
    let draining = if backend.draining { Cell::toned(Tone::Warn, "yes") } else { "no".into() };
    vec![
        pool.into(),
        backend.address.clone().into(),
        backend.weight.to_string().into(),
        Cell::toned(tone, state),
        draining,
        units::count(backend.in_flight).into(),
        units::count(backend.calls).into(),
        units::count(backend.failures).into(),
        backend.origin.into(),
        printable(backend.last_error.as_deref().unwrap_or_default()).replace('\n', " ").into(),
    ]
}

impl From<pb::Pool> for Pool {
    fn from(pool: pb::Pool) -> Self {
        let pb::Pool { name, protocol, balance, backends, .. } = pool;
        Self { pool: name, protocol, balance, backends: backends.into_iter().map(Backend::from).collect() }
    }
}

impl From<pb::Backend> for Backend {
    fn from(backend: pb::Backend) -> Self {
        let ejection = match backend.ejection() {
            pb::Ejection::Ejected => "ejected",
            pb::Ejection::HalfOpen => "half open",
            pb::Ejection::None | pb::Ejection::Unspecified => "none",
        };
        Self {
            health: health(&backend),
            origin: match backend.origin() {
                pb::Origin::Config => "config",
                pb::Origin::Changed => "changed",
                pb::Origin::Added => "added",
                pb::Origin::Discovered => "discovered",
                pb::Origin::Unspecified => "unknown",
            },
            address: backend.address,
            weight: backend.weight,
            draining: backend.draining,
            in_flight: backend.in_flight,
            calls: backend.calls,
            failures: backend.failures,
            ejection,
            tier: backend.tier,
            last_error: Some(backend.last_error).filter(|error| !error.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pools() -> Vec<Pool> {
        let backend = |address: &str, health: pb::Health, origin: pb::Origin| pb::Backend {
            address: address.into(),
            weight: 1,
            health: health.into(),
            origin: origin.into(),
            ..Default::default()
        };
        let busy = pb::Backend {
            in_flight: 3,
            calls: 1204,
            draining: true,
            ..backend("127.0.0.1:7101", pb::Health::Healthy, pb::Origin::Changed)
        };
        let dead = pb::Backend {
            last_error: "connection\nrefused".into(),
            ..backend("127.0.0.1:7111", pb::Health::Unhealthy, pb::Origin::Added)
        };
        let pool = |name: &str, backends| pb::Pool {
            name: name.into(),
            protocol: "grpc".into(),
            backends,
            ..Default::default()
        };
        let out = pb::Backend {
            ejection: pb::Ejection::Ejected.into(),
            ..backend("127.0.0.1:7121", pb::Health::Healthy, pb::Origin::Config)
        };
        vec![pool("cache", vec![busy, dead, out]).into(), pool("database", Vec::new()).into()]
    }

    #[test]
    fn a_person_sees_every_pool_with_its_backends() {
        let expected = "\
pool      backend         weight  health     draining  in flight  calls  failures  origin   last error
cache     127.0.0.1:7101       1  healthy    yes               3  1,204         0  changed
          127.0.0.1:7111       1  unhealthy  no                0      0         0  added    connection refused
          127.0.0.1:7121       1  ejected    no                0      0         0  config
database  no backends
";
        assert_eq!(table(&pools(), Paint::BARE), expected);
    }

    #[test]
    fn a_program_reads_stable_keys() {
        let json: serde_json::Value = serde_json::from_str(&json(&pools()).unwrap()).unwrap();
        assert_eq!((&json[0]["pool"], &json[0]["protocol"]), (&"cache".into(), &"grpc".into()));
        let backend = &json[0]["backends"][0];
        assert_eq!((&backend["draining"], &backend["in_flight"]), (&true.into(), &3.into()));
        assert!(backend["last_error"].is_null());
        assert_eq!(json[0]["backends"][1]["origin"], "added");
        let out = &json[0]["backends"][2];
        assert_eq!(
            (&out["health"], &out["ejection"], &out["tier"]),
            (&"healthy".into(), &"ejected".into(), &0.into())
        );
    }
}
