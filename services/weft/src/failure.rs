//! Errors as told to a person: one line with the cause and what to do.

use weft_client::Error;
use weft_mesh::error::{CallError, ErrorKind};

use crate::terminal::printable;

/// An error and its causes on one line, with what to do about it where that is known.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    let advice = cause.map(advice).unwrap_or_default();
    let text = match cause {
        // What the network says adds nothing to "nothing answers".
        Some(Error::Unreachable { .. }) => cause.map(ToString::to_string).unwrap_or_default(),
        _ => format!("{error:#}"),
    };
    printable(&format!("error: {text}{advice}"))
}

/// Why one item failed, where many may: without advice.
pub(crate) fn reason(error: &Error) -> String {
    let mut text = error.to_string();
    if let Error::Call(call) = error {
        for field in &call.fields {
            if !text.contains(&field.description) {
                text.push_str(&format!("; {}: {}", field.field, field.description));
            }
        }
    }
    if let Error::File { source, .. } = error {
        text.push_str(&format!(": {source}"));
    }
    text
}

fn advice(error: &Error) -> &'static str {
    match error {
        Error::Unreachable { .. } => ": start the mesh with `weft up`",
        Error::Call(call) => advice_on(call),
        Error::WatchDeadline { .. } => "; it goes on in the mesh, and `--timeout` waits longer",
        _ => "",
    }
}

fn advice_on(call: &CallError) -> &'static str {
    match call.kind {
        _ if call.reason == "NO_HEALTHY_BACKENDS" => "; `weft status` shows which replica is down",
        ErrorKind::Unavailable => "; try again, and look at `weft status` if it stays so",
        ErrorKind::DeadlineExceeded => "; `--timeout` waits longer, `weft status` shows what is slow",
        ErrorKind::ResourceExhausted => "; try again in a moment",
        ErrorKind::Internal => "; the log of the mesh says more",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use weft_mesh::error::{MeshError, status};

    use super::*;

    #[test]
    fn a_mesh_that_is_not_there_is_told_in_one_line() {
        let source = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let address = "http://127.0.0.1:7080".to_owned();
        let error = anyhow::Error::from(Error::Unreachable { address, source }).context("cannot ask");
        let line = "error: nothing answers at http://127.0.0.1:7080: start the mesh with `weft up`";
        assert_eq!(explain(&error), line);
    }

    #[test]
    fn a_failed_call_says_where_to_look() {
        let call =
            || Err::<(), _>(Error::from(status(MeshError::NoHealthyBackends { pool: "cache".into() })));
        let error = call().context("cannot create the chat").unwrap_err();
        let line = "error: cannot create the chat: no healthy backend in pool cache; \
                    `weft status` shows which replica is down";
        assert_eq!(explain(&error), line);
    }

    #[test]
    fn other_errors_are_told_with_their_causes() {
        let error = anyhow::anyhow!("disk full").context("cannot write a.txt");
        assert_eq!(explain(&error), "error: cannot write a.txt: disk full");
    }
}
