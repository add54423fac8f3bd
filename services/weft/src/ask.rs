//! `weft ask`: a question, and its answer as it comes.

use std::{io, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use weft_client::{Client, Event, Patience, Watch};
use weft_proto::{
    database::v1::{Citation, Message, Role},
    queue::v1::{Job, JobState},
};

use crate::{
    cli::AskArguments,
    session::Session,
    terminal::{self, Paint, printable},
};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(300);
/// How long a mesh that restarts is waited for, before the answer has begun.
const PATIENCE: Duration = Duration::from_secs(10);
/// How far back the answer is looked for among the chat's messages: others may have been posted meanwhile.
const RECENT: usize = 50;

/// A piece of an answer, as it comes.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Some text.
    Text(&'a str),
    /// The attempt failed, and another begins: what came before is void.
    Again(&'a str),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The chat it belongs to.
    pub chat_id: String,
    /// As stored, with the passages it quotes.
    pub message: Message,
}

/// Asks, in a chat or in a new one, and shows the answer as it comes until `show` says that nobody listens any more.
///
/// # Errors
/// When the question cannot be posted, and when the job that answers it fails or does not end within `limit`.
pub async fn ask(
    client: &Client,
    question: &str,
    chat: Option<&str>,
    limit: Duration,
    mut show: impl FnMut(Piece<'_>) -> io::Result<bool>,
) -> anyhow::Result<Option<Answer>> {
    let (chats, messages) = (client.chats(), client.messages());
    let patience = Patience::of(PATIENCE);
    let key = uuid::Uuid::now_v7().to_string();
    let chat_id = match chat {
        Some(chat) => chat.to_owned(),
        None => patience.run(|| chats.create("", "", &key)).await.context("cannot create a chat")?.id,
    };
    let posted = patience.run(|| messages.post(&chat_id, question, &key)).await;
    let posted = posted.with_context(|| format!("cannot post to chat {chat_id}"))?;
    let mut events = client.jobs().watch(&posted.job_id, Watch { limit, ..Watch::default() });
    while let Some(event) = events.try_next().await.context("cannot follow the answer")? {
        let listening = match &event.event {
            Event::Output(output) => show(Piece::Text(&output.text))?,
            Event::Retry(retry) => {
                show(Piece::Again(retry.error.as_ref().map_or("", |error| &error.message)))?
            }
            Event::Progress(_) => true,
            Event::Ended(job) => {
                ended(job)?;
                let message = reply(client, &chat_id, &posted.job_id).await?;
                return Ok(Some(Answer { chat_id, message }));
            }
        };
        if !listening {
            return Ok(None);
        }
    }
    bail!("the answer ended without its end")
}

fn ended(job: &Job) -> anyhow::Result<()> {
    let why = job.errors.last().map_or("no reason given", |error| &error.message);
    match job.state() {
        JobState::Succeeded => Ok(()),
        JobState::Cancelled => bail!("the answer was cancelled"),
        _ => bail!("no answer after {} attempts: {why}; `weft jobs show {}` says more", job.attempts, job.id),
    }
}

/// The stored answer of a job.
async fn reply(client: &Client, chat_id: &str, job_id: &str) -> anyhow::Result<Message> {
    let mut recent = client.messages().list(chat_id).take(RECENT);
    while let Some(message) = recent.try_next().await.context("cannot read the answer back")? {
        if message.role() == Role::Assistant && message.job_id == job_id {
            return Ok(message);
        }
    }
    bail!("the answer is not among the last messages of chat {chat_id}")
}

/// Runs `weft ask`.
pub(crate) async fn command(session: &Session, arguments: &AskArguments) -> anyhow::Result<ExitCode> {
    let client = session.client().await?;
    let mut at_line_start = true;
    let answer =
        ask(&client, &arguments.question, arguments.chat.as_deref(), session.timeout(ANSWER), |piece| {
            match piece {
                Piece::Text(text) => {
                    let text = printable(text);
                    at_line_start = if text.is_empty() { at_line_start } else { text.ends_with('\n') };
                    terminal::print(&text)
                }
                Piece::Again(reason) => {
                    let gap = if at_line_start { "" } else { "\n" };
                    at_line_start = true;
                    let notice = format!("once again, because {}", printable(reason));
                    terminal::tell(format!("{gap}{}", session.err.dim(notice)));
                    Ok(true)
                }
            }
        });
    let Some(answer) = answer.await? else { return Ok(ExitCode::SUCCESS) };
    if !at_line_start {
        terminal::print("\n")?;
    }
    terminal::tell(epilogue(&answer, session.err));
    Ok(ExitCode::SUCCESS)
}

/// The sources, each document once and best first, and how to go on.
fn epilogue(answer: &Answer, paint: Paint) -> String {
    let mut text = String::new();
    let sources = sources(&answer.message.citations);
    if !sources.is_empty() {
        text.push_str(&format!("\n{}\n", paint.dim("sources")));
    }
    for (path, passages) in sources {
        let passages: Vec<String> = passages.iter().map(|ordinal| (ordinal + 1).to_string()).collect();
        let noun = if passages.len() == 1 { "passage" } else { "passages" };
        text.push_str(&format!(
            "  {} {}\n",
            printable(path),
            paint.dim(format!("{noun} {}", passages.join(", ")))
        ));
    }
    let again = format!("weft ask --chat {} \"…\"", answer.chat_id);
    text.push_str(&format!("\n{} {}\n", paint.dim("go on with"), again));
    text
}

fn sources(citations: &[Citation]) -> Vec<(&str, Vec<u32>)> {
    let mut sources: Vec<(&str, Vec<u32>)> = Vec::new();
    for citation in citations {
        match sources.iter_mut().find(|(path, _)| *path == citation.path) {
            Some((_, passages)) => passages.push(citation.ordinal),
            None => sources.push((&citation.path, vec![citation.ordinal])),
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use weft_proto::queue::v1::JobError;

    use super::*;

    #[test]
    fn the_epilogue_names_each_document_once_and_how_to_go_on() {
        let citation = |path: &str, ordinal| Citation { path: path.into(), ordinal, ..Default::default() };
        let citations = vec![citation("docs/b.md", 3), citation("a.md", 0), citation("docs/b.md", 1)];
        let message = Message { citations, ..Default::default() };
        let answer = Answer { chat_id: "c1".into(), message };
        let text =
            "\nsources\n  docs/b.md passages 4, 2\n  a.md passage 1\n\ngo on with weft ask --chat c1 \"…\"\n";
        assert_eq!(epilogue(&answer, Paint::BARE), text);

        let nothing = Answer { chat_id: "c1".into(), message: Message::default() };
        assert_eq!(epilogue(&nothing, Paint::BARE), "\ngo on with weft ask --chat c1 \"…\"\n");
    }

    #[test]
    fn a_job_that_gave_up_says_why() {
        let error = JobError { message: "provider: 401".into(), ..Default::default() };
        let job = Job {
            id: "j1".into(),
            state: JobState::Dead.into(),
            attempts: 5,
            errors: vec![error],
            ..Default::default()
        };
        let told = ended(&job).unwrap_err().to_string();
        assert_eq!(told, "no answer after 5 attempts: provider: 401; `weft jobs show j1` says more");
        assert!(ended(&Job { state: JobState::Succeeded.into(), ..Default::default() }).is_ok());
    }
}
