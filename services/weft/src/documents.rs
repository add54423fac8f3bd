//! `weft documents`: what was ingested, and where it stands.

use std::process::ExitCode;

use futures::TryStreamExt as _;
use weft_proto::database::v1::{Document, DocumentState};

use crate::{
    cli::{DocumentsArguments, State},
    session::Session,
    table::{Align, Cell, Table},
    terminal::{self, Tone, printable},
    units,
};

/// How many rows are laid out together: the columns of a long list are as wide as a screenful needs.
const SCREENFUL: usize = 500;

/// Runs `weft documents`.
pub(crate) async fn command(session: &Session, arguments: &DocumentsArguments) -> anyhow::Result<ExitCode> {
    let state = arguments.state.map(|state| match state {
        State::Pending => DocumentState::Pending,
        State::Ready => DocumentState::Ready,
        State::Failed => DocumentState::Failed,
    });
    let mut screenfuls = session.client().await?.documents().list(state).try_chunks(SCREENFUL);
    let mut any = false;
    while let Some(documents) = screenfuls.try_next().await.map_err(|error| error.1)? {
        any = true;
        if !terminal::print(&table(&documents).render(session.out))? {
            break;
        }
    }
    if !any {
        terminal::tell("no documents; `weft ingest <folder>` brings some");
    }
    Ok(ExitCode::SUCCESS)
}

fn table(documents: &[Document]) -> Table {
    let mut table = Table::new(&[
        ("state", Align::Left),
        ("passages", Align::Right),
        ("size", Align::Right),
        ("version", Align::Right),
        ("document", Align::Left),
    ]);
    for document in documents {
        let (tone, state) = match document.state() {
            DocumentState::Ready => (Tone::Good, "ready"),
            DocumentState::Failed => (Tone::Bad, "failed"),
            DocumentState::Pending => (Tone::Warn, "pending"),
            DocumentState::Unspecified => (Tone::Plain, "unknown"),
        };
        let why = if document.reason.is_empty() { String::new() } else { format!(": {}", document.reason) };
        table.row(vec![
            Cell::toned(tone, state),
            units::count(document.chunk_count.into()).into(),
            units::bytes(document.size_bytes).into(),
            document.version.to_string().into(),
            printable(&format!("{}{why}", document.path)).replace('\n', " ").into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Paint;

    #[test]
    fn a_failed_document_says_why() {
        let ready = Document {
            path: "a.md".into(),
            state: DocumentState::Ready.into(),
            chunk_count: 12,
            size_bytes: 2048,
            version: 1,
            ..Default::default()
        };
        let failed = Document {
            path: "b.pdf".into(),
            state: DocumentState::Failed.into(),
            reason: "not text".into(),
            ..ready.clone()
        };
        assert_eq!(
            table(&[ready, failed]).render(Paint::BARE),
            "state   passages     size  version  document\n\
             ready         12  2.0 KiB        1  a.md\n\
             failed        12  2.0 KiB        1  b.pdf: not text\n"
        );
    }
}
