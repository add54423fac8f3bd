//! The gateway's access log, as a replay needs it.

use std::{
    io::{BufRead, Read as _},
    time::Duration,
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde::Deserialize;
use weft_balance::{
    simulator::Served,
    verdict::{Blame, Ending, Hints, How, Place, classify},
};

use crate::cli::ReplayArguments;

/// The longest line that is read: the gateway writes no longer ones.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// What a line says that matters here.
#[derive(Debug, Deserialize)]
struct Line {
    time: Timestamp,
    pool: String,
    backend: String,
    duration_ms: f64,
    status: u16,
    grpc_status: Option<u16>,
    key: Option<String>,
}

impl Line {
    /// Whether it counts against its backend, by the gateway's own rule.
    fn failed(&self) -> bool {
        let code = self.grpc_status.map(|code| code.to_string());
        let hints = Hints::default();
        let how = match &code {
            Some(code) => {
                let status = Some((code.as_bytes(), Place::Trailers));
                How::Grpc { http_status: self.status, status, hints }
            }
            None => How::Http { status: self.status, hints },
        };
        matches!(classify(&Ending::from(how)).blame, Blame::Failed | Blame::Overloaded)
    }
}

/// The calls of one pool.
#[derive(Debug, Default)]
pub(super) struct Recording {
    pub(super) calls: Vec<Served>,
    /// Of the backends that served them, which `Served::machine` counts.
    pub(super) addresses: Vec<String>,
    /// Calls that were given to nobody.
    pub(super) unassigned: u64,
}

impl Recording {
    /// Reads the lines of a log until its end or the limit of calls.
    ///
    /// # Errors
    /// When it cannot be read, a line is not of an access log, or none is of that pool.
    pub(super) fn read(mut log: impl BufRead, arguments: &ReplayArguments) -> anyhow::Result<Self> {
        let mut recording = Self::default();
        let (mut line, mut number, mut pools) = (String::new(), 0_u64, Vec::new());
        while recording.calls.len() < arguments.limit as usize {
            line.clear();
            number += 1;
            if log.by_ref().take(MAX_LINE_BYTES).read_line(&mut line).context("read the access log")? == 0 {
                break;
            }
            // The last line of a log that is being written may be half of one.
            if !line.ends_with('\n') && (line.len() as u64) < MAX_LINE_BYTES {
                break;
            }
            let parsed: Line = serde_json::from_str(&line)
                .with_context(|| format!("line {number} is not of the gateway's access log"))?;
            if parsed.pool == arguments.pool {
                recording.take(&parsed);
            } else if pools.len() < 16 && !parsed.pool.is_empty() && !pools.contains(&parsed.pool) {
                pools.push(parsed.pool);
            }
        }
        recording.addressed(&pools, &arguments.pool)
    }

    fn addressed(self, pools: &[String], wanted: &str) -> anyhow::Result<Self> {
        if !self.calls.is_empty() {
            return Ok(self);
        }
        match pools {
            [] => bail!("the access log has no call of pool {wanted}, nor of any other"),
            pools => bail!("the access log has no call of pool {wanted}, but of {}", pools.join(", ")),
        }
    }

    fn take(&mut self, line: &Line) {
        if line.backend.is_empty() {
            self.unassigned += 1;
            return;
        }
        let known = self.addresses.iter().position(|address| *address == line.backend);
        let machine = known.unwrap_or_else(|| {
            self.addresses.push(line.backend.clone());
            self.addresses.len() - 1
        });
        let since_1970 =
            Duration::try_from(line.time.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default();
        self.calls.push(Served {
            at: since_1970,
            took: Duration::try_from_secs_f64(line.duration_ms / 1000.0).unwrap_or_default(),
            machine,
            key: line.key.as_deref().and_then(|key| u64::from_str_radix(key, 16).ok()),
            failed: line.failed(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(limit: u32) -> ReplayArguments {
        ReplayArguments {
            file: "-".into(),
            pool: "chat".into(),
            policies: Vec::new(),
            weights: Vec::new(),
            slots: 0,
            max_in_flight: 0,
            limit,
            json: false,
        }
    }

    fn line(pool: &str, backend: &str, grpc_status: &str) -> String {
        format!(
            r#"{{"time":"2026-11-27T10:00:00.5Z","method":"POST","pool":"{pool}","backend":"{backend}","duration_ms":1.5,"status":200{grpc_status},"key":"ff"}}"#
        ) + "\n"
    }

    #[test]
    fn calls_of_the_pool_are_taken_and_refused_ones_counted() {
        let log = line("chat", "a:1", r#","grpc_status":0"#)
            + &line("other", "z:1", "")
            + &line("chat", "", r#","grpc_status":14"#)
            + &line("chat", "b:1", r#","grpc_status":14"#)
            + r#"{"time":"2026-1"#;
        let recording = Recording::read(log.as_bytes(), &arguments(100)).unwrap();
        assert_eq!((recording.addresses.len(), recording.unassigned), (2, 1));
        let [first, second] = recording.calls[..] else { panic!("{recording:?}") };
        assert_eq!((first.took, first.key, first.failed), (Duration::from_micros(1500), Some(255), false));
        assert_eq!((second.machine, second.failed), (1, true));
        assert_eq!(Recording::read(log.as_bytes(), &arguments(1)).unwrap().calls.len(), 1);
    }

    #[test]
    fn what_is_not_an_access_log_is_named() {
        let refused =
            |log: &str| format!("{:#}", Recording::read(log.as_bytes(), &arguments(9)).unwrap_err());
        assert!(refused("{\"level\":\"INFO\"}\n").starts_with("line 1 is not"), "{}", refused("{}\n"));
        assert!(refused(&line("other", "a:1", "")).ends_with("but of other"));
        assert!(refused("").ends_with("nor of any other"));
    }
}
