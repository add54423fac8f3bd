//! Chat jobs from Publish to the stored reply and the notification.

use serde_json::json;
use tonic::Code;
use weft_proto::{
    database::v1::{Message, Role},
    queue::v1::{JobState, PublishRequest, WatchJobResponse, watch_job_response::Event},
};
use weft_testkit::eventually;

use crate::{
    fake::provider::{Provider, Script, answer, token},
    world::{Backend, SOON, World, on_every_backend, reply},
};

on_every_backend! {
    without_a_provider_passages_are_quoted_and_it_says_so,
    nothing_found_is_said_to_be_nothing,
    a_provider_streams_its_answer_with_the_passages_at_hand,
    an_answer_that_breaks_off_is_begun_again_and_what_came_is_void,
    malformed_and_failing_streams_are_tried_again,
    a_busy_provider_is_left_alone_as_long_as_it_asks,
    a_refusal_is_a_dead_letter_at_once_without_the_key,
    an_attempt_after_the_reply_was_stored_stores_no_other,
    a_failure_after_the_reply_was_stored_repeats_only_the_rest,
    a_chat_that_is_gone_needs_no_answer,
    a_question_far_back_in_a_long_chat_is_found,
}

fn text(events: &[WatchJobResponse]) -> String {
    let mut text = String::new();
    for event in events {
        match &event.event {
            Some(Event::Output(output)) => text.push_str(&output.text),
            Some(Event::Retry(_)) => text.clear(), // what came before is void
            _ => {}
        }
    }
    text
}

async fn ask(world: &World) -> (weft_proto::queue::v1::Job, String) {
    let job = world.publish(reply("c", "m")).await.unwrap().job.unwrap();
    let events = world.watch(&job.id).await;
    (world.job(&job.id).await, text(&events))
}

fn replies(world: &World) -> Vec<Message> {
    let state = world.surroundings.state.lock();
    state.messages["c"].iter().filter(|message| message.role() == Role::Assistant).cloned().collect()
}

async fn with_provider(backend: Backend, scripts: impl IntoIterator<Item = Script>) -> (World, Provider) {
    let provider = Provider::start(scripts).await;
    let world = World::with(backend, |config| {
        config.provider.base_url = provider.base_url();
        config.provider.model = "small".into();
        config.provider.api_key = "sesame".into();
    })
    .await;
    world.surroundings.state.add_message("c", "m", "How are idle connections closed?");
    world.surroundings.state.add_hit("d1", "docs/pool.md", "The pool closes idle connections after 30 s.");
    (world, provider)
}

async fn without_a_provider_passages_are_quoted_and_it_says_so(backend: Backend) {
    let world = World::start(backend).await;
    let state = &world.surroundings.state;
    state.add_message("c", "m", "How are idle connections closed?");
    state.add_hit("d1", "docs/pool.md", "The pool closes idle connections after 30 s.");
    state.add_hit("d2", "docs/cake.md", "Beat the eggs.");
    let (job, text) = ask(&world).await;
    assert_eq!(job.state(), JobState::Succeeded);
    assert!(text.contains("retrieval only"), "{text}");
    assert!(text.contains("1. docs/pool.md — \"The pool closes idle connections after 30 s.\""), "{text}");
    assert!(!text.contains("cake"), "it shares no word with the question");
    let replies = replies(&world);
    assert_eq!((replies.len(), &replies[0].content, &replies[0].job_id), (1, &text, &job.id));
    assert_eq!(replies[0].citations[0].path, "docs/pool.md");
    eventually(SOON, || async { state.lock().notifications.len() == 1 }).await;
    let notification = state.lock().notifications[0].clone();
    assert_eq!((notification.kind.as_str(), notification.subject_id.as_str()), ("chat.replied", "c"));
}

async fn nothing_found_is_said_to_be_nothing(backend: Backend) {
    let world = World::start(backend).await;
    world.surroundings.state.add_message("c", "m", "What is love?");
    let (job, text) = ask(&world).await;
    assert_eq!(job.state(), JobState::Succeeded);
    assert!(text.contains("Nothing in your documents matches"), "{text}");
}

async fn a_provider_streams_its_answer_with_the_passages_at_hand(backend: Backend) {
    let (world, provider) = with_provider(backend, [answer(&["After ", "30 ", "seconds."])]).await;
    let (job, text) = ask(&world).await;
    assert_eq!((job.state(), text.as_str()), (JobState::Succeeded, "After 30 seconds."));
    assert_eq!(replies(&world)[0].content, text);
    assert_eq!(replies(&world)[0].citations[0].document_id, "d1");
    let (headers, body) = provider.requests().remove(0);
    assert_eq!(headers["authorization"], "Bearer sesame");
    assert_eq!((&body["model"], &body["stream"]), (&json!("small"), &json!(true)));
    let system = body["messages"][0]["content"].as_str().unwrap();
    assert!(system.contains("docs/pool.md") && system.contains("after 30 s"));
    assert_eq!(body["messages"][1], json!({"role": "user", "content": "How are idle connections closed?"}));
}

async fn an_answer_that_breaks_off_is_begun_again_and_what_came_is_void(backend: Backend) {
    let broken = || Script::Events(vec![token("Wrong "), token("start")]);
    let (world, _provider) = with_provider(backend, [broken(), broken(), answer(&["Right."])]).await;
    let (job, text) = ask(&world).await;
    assert_eq!((job.state(), job.attempts, text.as_str()), (JobState::Succeeded, 3, "Right."));
    assert!(job.errors[0].message.contains("broke off"), "{}", job.errors[0].message);
    assert_eq!(replies(&world).len(), 1);
}

async fn malformed_and_failing_streams_are_tried_again(backend: Backend) {
    let malformed = Script::Events(vec![token("Half"), "data: {\"choices\": [".into()]);
    let failing = Script::Events(vec![format!("data: {}", json!({"error": {"message": "out of memory"}}))]);
    let (world, _provider) = with_provider(backend, [malformed, failing, answer(&["Whole."])]).await;
    let (job, text) = ask(&world).await;
    assert_eq!(text, "Whole.");
    assert!(job.errors[0].message.contains("malformed"), "{}", job.errors[0].message);
    assert!(job.errors[1].message.contains("out of memory"), "{}", job.errors[1].message);
}

async fn a_busy_provider_is_left_alone_as_long_as_it_asks(backend: Backend) {
    let busy = Script::Refuse(429, json!({"error": {"message": "slow down"}}), Some("3600"));
    let (world, _provider) = with_provider(backend, [busy]).await;
    let id = world.publish(reply("c", "m")).await.unwrap().job.unwrap().id;
    let job = world.reaches(&id, JobState::Scheduled).await;
    let wait = job.due_at.unwrap().seconds - job.errors[0].time.as_ref().unwrap().seconds;
    assert!((3590..=3610).contains(&wait), "due {wait} s later");
    assert!(job.errors[0].message.contains("429: slow down"), "{}", job.errors[0].message);
}

async fn a_refusal_is_a_dead_letter_at_once_without_the_key(backend: Backend) {
    let refusal = Script::Refuse(401, json!({"error": {"message": "bad key"}}), None);
    let (world, _provider) = with_provider(backend, [refusal]).await;
    let (job, _) = ask(&world).await;
    assert_eq!((job.state(), job.attempts), (JobState::Dead, 1));
    assert!(job.errors[0].message.contains("bad key") && !job.errors[0].message.contains("sesame"));
}

async fn an_attempt_after_the_reply_was_stored_stores_no_other(backend: Backend) {
    let (world, provider) = with_provider(backend, [answer(&["Once."])]).await;
    let id = uuid::Uuid::now_v7().to_string();
    let stored = Message {
        id: "r".into(),
        chat_id: "c".into(),
        role: Role::Assistant.into(),
        content: "Once.".into(),
        job_id: id.clone(),
        ..Message::default()
    };
    world.surroundings.state.lock().messages.get_mut("c").unwrap().push(stored);
    world.publish(PublishRequest { job_id: id.clone(), ..reply("c", "m") }).await.unwrap();
    assert_eq!(text(&world.watch(&id).await), "Once.");
    assert_eq!((replies(&world).len(), provider.requests().len()), (1, 0));
    eventually(SOON, || async { world.surroundings.state.lock().notifications.len() == 1 }).await;
}

async fn a_failure_after_the_reply_was_stored_repeats_only_the_rest(backend: Backend) {
    let world = World::start(backend).await;
    let state = &world.surroundings.state;
    state.add_message("c", "m", "Is anybody there?");
    state.lock().failures.extend([Code::Internal]);
    let (job, text) = ask(&world).await;
    assert_eq!((job.state(), job.attempts), (JobState::Succeeded, 2));
    assert_eq!(replies(&world)[0].content, text);
}

async fn a_chat_that_is_gone_needs_no_answer(backend: Backend) {
    let world = World::start(backend).await;
    let (job, text) = ask(&world).await;
    assert_eq!((job.state(), text.as_str()), (JobState::Succeeded, ""));
    assert_eq!(world.surroundings.state.calls("append_reply"), 0);
}

async fn a_question_far_back_in_a_long_chat_is_found(backend: Backend) {
    let world = World::start(backend).await;
    let state = &world.surroundings.state;
    state.add_message("c", "m", "How are idle connections closed?");
    for i in 0..130 {
        state.add_message("c", &format!("later{i}"), "Something else entirely");
    }
    state.add_hit("d1", "docs/pool.md", "The pool closes idle connections.");
    let (_, text) = ask(&world).await;
    assert!(text.contains("docs/pool.md"), "{text}");
}
