//! What replicas log, told under their names.

use std::io::{self, Write as _};

use serde_json::Value;
use tokio::process::ChildStderr;
use weft_runtime::config::LogFormat;

use super::process::each_line;
use crate::terminal::printable;

/// Passes every line on to this process's stderr, as fast as that takes them and no faster: a replica whose lines are
/// not read waits, as it would for a terminal. The last line in the end.
pub(super) async fn relay(replica: String, format: LogFormat, stderr: ChildStderr) -> String {
    let mut last = String::new();
    let pass = |line: String| {
        let line = printable(&line);
        // Where nobody reads any more there is nobody to tell either.
        let _ = writeln!(io::stderr().lock(), "{}", named(&replica, format, &line));
        if !line.trim().is_empty() {
            last = line;
        }
    };
    each_line(stderr, pass).await;
    last
}

/// The line with the replica's name, in the format of the log it joins.
fn named(replica: &str, format: LogFormat, line: &str) -> String {
    match format {
        LogFormat::Pretty => format!("{replica} | {line}"),
        LogFormat::Json => {
            let event = serde_json::from_str(line).ok().filter(Value::is_object);
            // What is no event is what a process says before its log is set up, or when it panics.
            let mut event = event.unwrap_or_else(|| serde_json::json!({ "message": line }));
            event["replica"] = Value::from(replica);
            event.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people_begins_with_the_name() {
        assert_eq!(named("cache-2", LogFormat::Pretty, "WARN not ready"), "cache-2 | WARN not ready");
    }

    #[test]
    fn a_line_for_programs_stays_one_object() {
        let named = |line| serde_json::from_str::<Value>(&named("cache-2", LogFormat::Json, line)).unwrap();
        let event = named(r#"{"level":"WARN","fields":{"message":"not ready"}}"#);
        assert_eq!((&event["replica"], &event["level"]), (&"cache-2".into(), &"WARN".into()));
        for odd in ["thread 'weft' panicked", "[1]", "7", ""] {
            let event = named(odd);
            assert_eq!((&event["replica"], &event["message"]), (&"cache-2".into(), &odd.into()));
        }
    }
}
