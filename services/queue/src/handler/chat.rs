//! Answers a chat message: from a model with the user's passages at hand, or by quoting the passages themselves.

use futures::StreamExt as _;
use uuid::Uuid;
use weft_mesh::{
    Channel,
    error::{CallError, ErrorKind},
};
use weft_proto::{
    database::v1::{
        AppendReplyRequest, Citation, GetChatRequest, ListMessagesRequest, Message, Role,
        SearchChunksRequest, SearchHit, chat_service_client::ChatServiceClient,
        message_service_client::MessageServiceClient, search_service_client::SearchServiceClient,
    },
    queue::v1::{DeliverNotification, ReplyToChat},
};

use super::{Failure, kind};
use crate::{
    embedder::{self, Embedder},
    job::{Job, NewJob, Queue},
    ledger::Ledger,
    provider::{self, Provider},
    responder, words,
    worker::output::Output,
};

/// Passages asked for: more than are quoted, since several may be of one document.
const SEARCHED: i32 = 20;
/// The longest answer, in bytes: what the database stores.
const MAX_REPLY_BYTES: usize = 250 << 10;
/// The longest question searched for, in bytes: what the database takes.
const MAX_SEARCH_BYTES: usize = 8 << 10;
/// Messages may have 256 KiB each.
const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// A question with fewer words of its own is searched for together with the one before it.
const FEW_WORDS: usize = 3;

/// Handles `weft.queue.v1.ReplyToChat`.
pub struct ChatHandler {
    /// The model of a chat.
    pub chats: ChatServiceClient<Channel>,
    /// Its messages.
    pub messages: MessageServiceClient<Channel>,
    /// The user's passages.
    pub search: SearchServiceClient<Channel>,
    /// Questions into vectors.
    pub embedder: Embedder,
    /// The model provider; the built-in responder when there is none.
    pub provider: Option<Provider>,
    /// Messages looked at, the newest.
    pub history: usize,
    /// Passages given to a model.
    pub passages: usize,
    /// Attempts of the notification job that follows.
    pub max_attempts: u32,
    /// Where that job is published.
    pub ledger: Ledger,
}

/// A passage of one of the user's documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Passage {
    /// The document.
    pub document_id: String,
    /// Its path.
    pub path: String,
    /// The chunk's place in it.
    pub ordinal: u32,
    /// The heading it stands under.
    pub heading: String,
    /// Its text.
    pub text: String,
    /// Its relevance.
    pub score: f32,
}

impl ChatHandler {
    /// A handler on the database's services.
    #[must_use]
    pub fn new(
        database: &Channel,
        embedder: Embedder,
        provider: Option<Provider>,
        config: &crate::config::Config,
        ledger: Ledger,
    ) -> ChatHandler {
        ChatHandler {
            chats: ChatServiceClient::new(database.clone()),
            messages: MessageServiceClient::new(database.clone())
                .max_decoding_message_size(MAX_RESPONSE_BYTES),
            search: SearchServiceClient::new(database.clone()).max_decoding_message_size(MAX_RESPONSE_BYTES),
            embedder,
            provider,
            history: config.provider.history,
            passages: config.provider.passages,
            max_attempts: config.retry.max_attempts,
            ledger,
        }
    }

    /// Runs one attempt. The database stores one answer per job, however often it is asked.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn run(&self, job: &Job, payload: ReplyToChat, output: &Output) -> Result<(), Failure> {
        let Some(messages) = self.history(&payload).await? else { return Ok(()) };
        let answered = messages.newer.iter().find(|message| message.job_id == job.id.to_string());
        if let Some(answer) = answered {
            output.text(&answer.content); // an attempt before got this far
        } else {
            let passages = self.passages(&messages.until_question).await?;
            let (text, quoted) = match &self.provider {
                Some(provider) => {
                    self.ask(provider, &payload, &messages.until_question, passages, output).await?
                }
                None => respond(&messages.until_question, passages, output).await,
            };
            if !self.append(job, &payload, text, quoted).await? {
                return Ok(());
            }
        }
        self.notify(job, &payload, &messages.until_question).await
    }

    /// The chat up to the question, and what came after it; `None` when either is gone.
    async fn history(&self, payload: &ReplyToChat) -> Result<Option<History>, Failure> {
        let page_size = i32::try_from(self.history.clamp(2, 500)).unwrap_or(500);
        let (mut newest, mut page_token) = (Vec::new(), String::new());
        loop {
            let chat_id = payload.chat_id.clone();
            let request = ListMessagesRequest { chat_id, page_size, page_token };
            let page = match self.messages.clone().list_messages(request).await.map_err(CallError::from) {
                Ok(page) => page.into_inner(),
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(Failure::call("reading the chat", &error)),
            };
            newest.extend(page.messages);
            let question = newest.iter().position(|message: &Message| message.id == payload.message_id);
            // The question may stand at the end of a page: what led to it is on the next.
            let enough = question.is_some_and(|at| newest.len() - at >= self.history.min(10));
            if enough || page.next_page_token.is_empty() {
                return Ok(question.map(|at| History::split(newest, at)));
            }
            page_token = page.next_page_token;
        }
    }

    async fn passages(&self, messages: &[Message]) -> Result<Vec<Passage>, Failure> {
        let text = searched(messages);
        let embedding = self.embedder.embed(vec![text.clone()]).await?.pop().unwrap_or_default();
        if embedding.iter().all(|value| *value == 0.0) {
            return Ok(Vec::new()); // no words, nothing to find
        }
        let embedding = embedder::encode(&embedding).into();
        let request = SearchChunksRequest { text, embedding, limit: SEARCHED };
        let found = self.search.clone().search_chunks(request).await;
        let found =
            found.map_err(|status| Failure::call("searching the documents", &CallError::from(status)))?;
        Ok(found.into_inner().hits.into_iter().map(passage).collect())
    }

    async fn ask(
        &self,
        provider: &Provider,
        payload: &ReplyToChat,
        messages: &[Message],
        mut passages: Vec<Passage>,
        output: &Output,
    ) -> Result<(String, Vec<Passage>), Failure> {
        passages.truncate(self.passages);
        let model = self.model(payload).await?;
        let newest = &messages[messages.len().saturating_sub(self.history)..];
        let prompt = provider::prompt(newest, &passages);
        let mut pieces = provider.chat(&model, &prompt).await?;
        let mut text = String::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            if text.len() + piece.len() > MAX_REPLY_BYTES {
                break;
            }
            output.text(&piece);
            text.push_str(&piece);
        }
        if text.is_empty() {
            return Err(Failure::retry("the provider ended its answer without a word"));
        }
        Ok((text, passages))
    }

    /// The model that the chat names; empty for the configured one.
    async fn model(&self, payload: &ReplyToChat) -> Result<String, Failure> {
        let request = GetChatRequest { id: payload.chat_id.clone() };
        let chat = self.chats.clone().get_chat(request).await;
        let chat = chat.map_err(|status| Failure::call("reading the chat", &CallError::from(status)))?;
        Ok(chat.into_inner().chat.map(|chat| chat.model_id).unwrap_or_default())
    }

    /// Stores the answer; false when the chat is gone.
    async fn append(
        &self,
        job: &Job,
        payload: &ReplyToChat,
        content: String,
        quoted: Vec<Passage>,
    ) -> Result<bool, Failure> {
        let request = AppendReplyRequest {
            chat_id: payload.chat_id.clone(),
            job_id: job.id.to_string(),
            content,
            citations: quoted.into_iter().take(32).map(citation).collect(),
        };
        match self.messages.clone().append_reply(request).await.map_err(CallError::from) {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failure::call("storing the answer", &error)),
        }
    }

    /// Publishes the notification under an id that follows from the job's: once, however often.
    async fn notify(&self, job: &Job, payload: &ReplyToChat, messages: &[Message]) -> Result<(), Failure> {
        let question = messages.last().map_or("", |message| message.content.as_str());
        let question: String = question.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = format!("Answered: {}", question.chars().take(120).collect::<String>());
        let notification =
            DeliverNotification { kind: "chat.replied".into(), text, subject_id: payload.chat_id.clone() };
        let new = NewJob {
            id: derived_id(job.id, "chat.replied"),
            queue: Queue::Notification,
            kind: kind(Queue::Notification).to_owned(),
            owner: job.owner.clone(),
            payload: prost::Message::encode_to_vec(&notification),
            idempotency_key: None,
            max_attempts: self.max_attempts,
            due_at: self.ledger.clock().now(),
            traceparent: weft_mesh::trace::traceparent().unwrap_or_default(),
            dead_on_arrival: None,
        };
        let published = self.ledger.publish(new).await;
        published.map(drop).map_err(|error| Failure::retry(weft_mesh::error::chain(&error)))
    }
}

/// The messages around the question, oldest first.
struct History {
    until_question: Vec<Message>,
    newer: Vec<Message>,
}

impl History {
    /// From the newest first, with the question `at` this place.
    fn split(mut newest: Vec<Message>, at: usize) -> History {
        let mut until_question = newest.split_off(at);
        until_question.reverse();
        newest.reverse();
        History { until_question, newer: newest }
    }
}

/// Quotes passages, word by word.
async fn respond(messages: &[Message], passages: Vec<Passage>, output: &Output) -> (String, Vec<Passage>) {
    let question = searched(messages);
    let answer = responder::answer(&question, passages);
    for piece in answer.text.split_inclusive(' ') {
        output.text(piece);
        tokio::task::yield_now().await;
    }
    (answer.text, answer.quoted)
}

/// What to search for: the question, and the one before it when it says little by itself ("and why?").
fn searched(messages: &[Message]) -> String {
    let mut questions = messages.iter().rev().filter(|message| message.role() == Role::User);
    let question = questions.next().map_or("", |message| message.content.as_str());
    let before = questions.next().map_or("", |message| message.content.as_str());
    let text = if words::stems(question).count() < FEW_WORDS {
        format!("{question}\n{before}")
    } else {
        question.to_owned()
    };
    let mut end = text.trim_end().len().min(MAX_SEARCH_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn passage(hit: SearchHit) -> Passage {
    let chunk = hit.chunk.unwrap_or_default();
    Passage {
        document_id: hit.document_id,
        path: hit.path,
        ordinal: chunk.ordinal,
        heading: chunk.heading,
        text: chunk.text,
        score: hit.score,
    }
}

fn citation(passage: Passage) -> Citation {
    Citation {
        document_id: passage.document_id,
        path: passage.path,
        ordinal: passage.ordinal,
        text: passage.text,
        score: passage.score,
    }
}

/// An id that is always the same for the same job and purpose.
#[must_use]
pub fn derived_id(job: Uuid, purpose: &str) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    hasher.update(job.as_bytes()).update(purpose.as_bytes());
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: Role, content: &str) -> Message {
        Message { role: role.into(), content: content.to_owned(), ..Message::default() }
    }

    #[test]
    fn a_question_of_few_words_is_searched_with_the_one_before() {
        let asked = |last: &str| {
            let first = message(Role::User, "How do quorum queues work?");
            searched(&[first, message(Role::Assistant, "They vote."), message(Role::User, last)])
        };
        assert_eq!(asked("And why is that?"), "And why is that?\nHow do quorum queues work?");
        assert_eq!(asked("Which delivery limit applies there?"), "Which delivery limit applies there?");
    }

    #[test]
    fn derived_ids_are_stable_and_differ_by_purpose() {
        let job = Uuid::from_u128(7);
        assert_eq!(derived_id(job, "a"), derived_id(job, "a"));
        assert_ne!(derived_id(job, "a"), derived_id(job, "b"));
        assert_eq!(derived_id(job, "a").get_version_num(), 8);
    }
}
