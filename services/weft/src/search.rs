//! `weft search`: the passages nearest to a text.

use std::process::ExitCode;

use weft_proto::database::v1::SearchHit;

use crate::{
    cli::SearchArguments,
    session::Session,
    terminal::{self, Paint, printable},
};

/// How much of a passage is shown.
const SHOWN_CHARS: usize = 240;

/// Runs `weft search`.
pub(crate) async fn command(session: &Session, arguments: &SearchArguments) -> anyhow::Result<ExitCode> {
    let hits = session.client().await?.search().text(&arguments.text, arguments.limit).await?;
    if hits.is_empty() {
        terminal::tell("nothing found; `weft documents` shows what can be found");
    }
    for hit in &hits {
        if !terminal::print(&told(hit, session.out))? {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn told(hit: &SearchHit, paint: Paint) -> String {
    let chunk = hit.chunk.clone().unwrap_or_default();
    let place = format!("passage {} · score {:.4}", chunk.ordinal + 1, hit.score);
    let words: Vec<&str> = chunk.text.split_whitespace().collect();
    let passage = words.join(" ");
    let cut: String = passage.chars().take(SHOWN_CHARS).collect();
    let rest = if cut.len() < passage.len() { " …" } else { "" };
    let (path, cut) = (printable(&hit.path), printable(&cut));
    format!("{} {}\n  {cut}{rest}\n", paint.strong(path), paint.dim(place))
}

#[cfg(test)]
mod tests {
    use weft_proto::database::v1::Chunk;

    use super::*;

    #[test]
    fn a_hit_is_two_lines_whatever_its_passage() {
        let chunk = Chunk { ordinal: 4, text: "many\n  words\u{1b} ".repeat(100), ..Default::default() };
        let hit = SearchHit { path: "a.md".into(), score: 0.25, chunk: Some(chunk), ..Default::default() };
        let text = told(&hit, Paint::BARE);
        assert!(text.starts_with("a.md passage 5 · score 0.2500\n  many words many words"));
        assert!(text.ends_with(" …\n") && text.lines().count() == 2 && !text.contains('\u{1b}'));
    }
}
