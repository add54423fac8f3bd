//! What is up, where, on which backend, and what to try next.

use std::{path::Path, time::Duration};

use weft_runtime::config::Secret;

use super::{Config, Mesh, start::Instance};
use crate::{
    table::{Align, Cell, Table},
    terminal::{Paint, Tone},
    units,
};

/// The gateway's address when nothing is configured, which the client commands try by themselves.
const DEFAULT_GATEWAY: &str = "127.0.0.1:7080";

/// What the summary tells of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    data_dir: String,
    /// Service and backend.
    backends: [(&'static str, String); 4],
}

impl Facts {
    /// Remembers them, before the services take their configuration.
    pub(super) fn of(config: &Config) -> Self {
        let url = |url: &Secret, embedded: &str| {
            let shown = url.to_string();
            if shown.is_empty() { embedded.to_owned() } else { shown }
        };
        let or = |given: Option<&Secret>, embedded: &str| {
            given.map_or_else(|| embedded.to_owned(), |it| url(it, embedded))
        };
        let cache = or(config.cache.redis.url.as_ref(), "in process");
        let database = or(config.database.database.url.as_ref(), "SQLite");
        let jobs = url(&config.queue.jobs.url, "SQLite");
        let broker = url(&config.queue.broker.amqp_url, "in process");
        let s3 = &config.assets.storage.s3;
        let assets = match (s3.bucket.as_str(), s3.endpoint.as_str()) {
            ("", _) => "local directory".to_owned(),
            (bucket, "") => format!("s3://{bucket}"),
            (bucket, endpoint) => format!("s3://{bucket} at {endpoint}"),
        };
        let queue = format!("jobs {jobs}, deliveries {broker}");
        Self {
            data_dir: config.data_dir.display().to_string(),
            backends: [("cache", cache), ("database", database), ("queue", queue), ("assets", assets)],
        }
    }
}

/// One line for a service, or for one of its replicas.
struct Line {
    service: String,
    address: String,
    backend: String,
    ready: Result<(), String>,
    pid: Option<u32>,
}

/// The summary of a running mesh.
pub(super) fn render(facts: &Facts, mesh: &Mesh, elapsed: Duration, paint: Paint) -> String {
    let gateway = Line {
        service: "gateway".to_owned(),
        address: format!("http://{}", mesh.gateway),
        backend: format!("admin http://{}", mesh.admin),
        ready: mesh.service("gateway").pop().map_or(Ok(()), |gateway| gateway.ready),
        pid: None,
    };
    let services = facts.backends.iter().flat_map(|(service, backend)| {
        let line = |instance: Instance| Line {
            service: instance.name,
            address: instance.address.to_string(),
            backend: backend.clone(),
            ready: instance.ready,
            pid: instance.pid,
        };
        mesh.service(service).into_iter().map(line)
    });
    let lines: Vec<Line> = [gateway].into_iter().chain(services).collect();
    let program = std::env::args().next().unwrap_or_else(|| "weft".to_owned());
    text(&lines, &facts.data_dir, &program, &mesh.gateway.to_string(), elapsed, paint)
}

fn text(
    lines: &[Line],
    data_dir: &str,
    program: &str,
    gateway: &str,
    elapsed: Duration,
    paint: Paint,
) -> String {
    let mut table = Table::new(&[
        ("service", Align::Left),
        ("address", Align::Left),
        ("", Align::Left),
        ("backend", Align::Left),
    ]);
    for line in lines {
        let process = line.pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
        let state = match &line.ready {
            Ok(()) => Cell::toned(Tone::Good, format!("ready{process}")),
            Err(reason) => Cell::toned(Tone::Warn, format!("not ready{process}: {reason}")),
        };
        table.row(vec![
            line.service.clone().into(),
            line.address.clone().into(),
            state,
            line.backend.clone().into(),
        ]);
    }
    let ready = lines.iter().all(|line| line.ready.is_ok());
    let headline = if ready {
        format!("is up after {}", units::elapsed(elapsed))
    } else {
        "is up, not all of it ready".to_owned()
    };
    let program = Path::new(program).display();
    let options =
        if gateway == DEFAULT_GATEWAY { String::new() } else { format!(" --gateway http://{gateway}") };
    format!(
        "{} {headline}\n\n{}\neverything is kept in {data_dir}\n\n{}\n  {program}{options} ingest .\n  \
         {program}{options} ask \"…\"\n  {program} status\n\n{}\n",
        paint.strong("weft"),
        table.render(paint),
        paint.dim("try in another terminal"),
        paint.dim("Ctrl-C stops it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(service: &str, address: &str, backend: &str, ready: Result<(), &str>) -> Line {
        let ready = ready.map_err(str::to_owned);
        Line { service: service.into(), address: address.into(), backend: backend.into(), ready, pid: None }
    }

    #[test]
    fn it_says_what_is_up_where_and_what_to_try() {
        let lines = [
            line("gateway", "http://127.0.0.1:7080", "admin http://127.0.0.1:7090", Ok(())),
            line("cache", "127.0.0.1:7101", "in process", Ok(())),
        ];
        let text = text(&lines, ".weft", "weft", DEFAULT_GATEWAY, Duration::from_millis(310), Paint::BARE);
        let expected = "\
weft is up after 310 ms

service  address                       backend
gateway  http://127.0.0.1:7080  ready  admin http://127.0.0.1:7090
cache    127.0.0.1:7101         ready  in process

everything is kept in .weft

try in another terminal
  weft ingest .
  weft ask \"…\"
  weft status

Ctrl-C stops it
";
        assert_eq!(text, expected);
    }

    #[test]
    fn replicas_are_told_with_their_processes() {
        let replica = |name, pid, ready| Line { pid, ..line(name, "127.0.0.1:4", "redis://h", ready) };
        let lines = [
            replica("cache-1", Some(42), Ok(())),
            replica("cache-2", Some(43), Err("no answer")),
            replica("cache-3", None, Err("ended with signal: 9 (SIGKILL)")),
        ];
        let text = text(&lines, "d", "weft", DEFAULT_GATEWAY, Duration::from_secs(2), Paint::BARE);
        for expected in [
            "cache-1  127.0.0.1:4  ready (process 42) ",
            "cache-2  127.0.0.1:4  not ready (process 43): no answer ",
            "cache-3  127.0.0.1:4  not ready: ended with signal: 9 (SIGKILL) ",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_ready_says_why_and_other_ports_are_named() {
        let lines = [line("cache", "127.0.0.1:1", "redis://h", Err("connection refused"))];
        let text = text(&lines, "d", "./weft", "127.0.0.1:2", Duration::from_secs(2), Paint::BARE);
        assert!(text.starts_with("weft is up, not all of it ready"));
        assert!(text.contains("not ready: connection refused  redis://h"));
        assert!(text.contains("./weft --gateway http://127.0.0.1:2 ingest ."));
    }
}
