//! The status as tables: all replicas, then what each service says of itself.

use std::time::Duration;

use super::model::{Replica, Service, Stats, Status, Sum};
use crate::{
    status::{assets::AssetsStats, cache::CacheStats, database::DatabaseStats, queue::QueueStats},
    table::{Align, Cell, Columns, Table},
    terminal::{Paint, Tone, printable},
    units,
};

/// The whole status.
pub(super) fn render(status: &Status, paint: Paint) -> String {
    let gateway = &status.gateway;
    let uptime = Duration::try_from_secs_f64(gateway.uptime_seconds).unwrap_or_default();
    let mut text = format!(
        "{} up {} · {} · {} in flight · {}\n\n",
        paint.strong("gateway"),
        units::elapsed(uptime),
        units::counted(gateway.calls, "call"),
        units::count(gateway.in_flight),
        units::counted(gateway.client_connections, "client connection"),
    );
    text.push_str(&overview(&status.services).render(paint));
    for replica in status.services.iter().flat_map(|service| &service.replicas) {
        if let Some(error) = &replica.error {
            text.push_str(&format!(
                "{} {}: {}\n",
                paint.tone(Tone::Bad, "!"),
                replica.address,
                printable(error)
            ));
        }
    }
    for service in &status.services {
        if let Some(table) = own(service) {
            text.push_str(&format!("\n{}\n{}", paint.strong(&service.pool), indent(&table.render(paint))));
        }
        if let Some(table) = service.sum.stats.as_ref().and_then(detail) {
            text.push_str(&format!("\n{}", indent(&table.render(paint))));
        }
    }
    text
}

fn overview(services: &[Service]) -> Table {
    let mut table = Table::new(&[
        ("service", Align::Left),
        ("address", Align::Left),
        ("process", Align::Right),
        ("health", Align::Left),
        ("weight", Align::Right),
        ("in flight", Align::Right),
        ("calls", Align::Right),
        ("failures", Align::Right),
    ]);
    for service in services {
        for (place, replica) in service.replicas.iter().enumerate() {
            let name = if place == 0 { service.pool.as_str() } else { "" };
            table.row(replica_row(name, replica));
        }
        if service.replicas.len() > 1 {
            table.row(sum_row(&service.sum));
        }
    }
    table
}

fn replica_row(name: &str, replica: &Replica) -> Vec<Cell> {
    let tone = match replica.health {
        "healthy" if replica.draining => Tone::Warn,
        "healthy" => Tone::Good,
        "unhealthy" => Tone::Bad,
        _ => Tone::Warn,
    };
    let health =
        if replica.draining { format!("{}, draining", replica.health) } else { replica.health.to_owned() };
    vec![
        name.into(),
        replica.address.clone().into(),
        replica.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()).into(),
        Cell::toned(tone, health),
        replica.weight.to_string().into(),
        units::count(replica.in_flight).into(),
        units::count(replica.calls).into(),
        units::count(replica.failures).into(),
    ]
}

fn sum_row(sum: &Sum) -> Vec<Cell> {
    vec![
        "".into(),
        Cell::toned(Tone::Dim, format!("sum of {}", sum.replicas)),
        "".into(),
        Cell::toned(Tone::Dim, format!("{} healthy", sum.healthy)),
        "".into(),
        Cell::toned(Tone::Dim, units::count(sum.in_flight)),
        Cell::toned(Tone::Dim, units::count(sum.calls)),
        Cell::toned(Tone::Dim, units::count(sum.failures)),
    ]
}

/// What the replicas of a service say of themselves, a row each, then their sum.
fn own(service: &Service) -> Option<Table> {
    let (columns, _) = cells(service.sum.stats.as_ref()?)?;
    let mut table = Table::new(&[&[("address", Align::Left)], columns].concat());
    let mut rows = 0;
    for replica in &service.replicas {
        if let Some((_, cells)) = replica.stats.as_ref().and_then(cells) {
            rows += 1;
            table.row([vec![replica.address.clone().into()], cells].concat());
        }
    }
    if let Some((_, cells)) = service.sum.stats.as_ref().and_then(cells).filter(|_| rows > 1) {
        table.row([vec![Cell::toned(Tone::Dim, format!("sum of {rows}"))], cells].concat());
    }
    Some(table)
}

fn cells(stats: &Stats) -> Option<(&'static Columns, Vec<Cell>)> {
    match stats {
        Stats::Cache(stats) => Some((CacheStats::COLUMNS, stats.cells())),
        Stats::Database(stats) => Some((DatabaseStats::COLUMNS, stats.cells())),
        Stats::Queue(stats) => Some((QueueStats::COLUMNS, stats.cells())),
        Stats::Assets(stats) => Some((AssetsStats::COLUMNS, stats.cells())),
        Stats::Other { .. } => None,
    }
}

fn detail(stats: &Stats) -> Option<Table> {
    match stats {
        Stats::Cache(stats) => stats.detail(),
        Stats::Queue(stats) => stats.detail(),
        Stats::Assets(stats) => stats.detail(),
        Stats::Database(_) | Stats::Other { .. } => None,
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
