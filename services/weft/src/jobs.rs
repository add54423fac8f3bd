//! `weft jobs`: jobs that gave up, and what to do with them.

use std::process::ExitCode;

use futures::TryStreamExt as _;
use weft_client::DeadJobs;
use weft_proto::queue::v1::{Job, JobState};

use crate::{
    cli::{DeadArguments, JobsCommand},
    session::Session,
    table::{Align, Table},
    terminal::{self, Paint, printable},
    units,
};

/// Runs `weft jobs …`.
pub(crate) async fn command(session: &Session, command: &JobsCommand) -> anyhow::Result<ExitCode> {
    let jobs = session.client().await?.jobs();
    match command {
        JobsCommand::Dead { queue } => {
            let dead: Vec<Job> = jobs.dead(queue).try_collect().await?;
            if dead.is_empty() {
                terminal::tell("no dead letters");
            } else {
                terminal::print(&table(&dead).render(session.out))?;
            }
        }
        JobsCommand::Show { id } => {
            terminal::print(&told(&jobs.get(id).await?, session.out))?;
        }
        JobsCommand::Redrive(which) => {
            let redriven = units::counted(jobs.redrive(named(which)).await?, "job");
            terminal::print(&format!("{redriven} put back\n"))?;
        }
        JobsCommand::Discard(which) => {
            let discarded = units::counted(jobs.discard(named(which)).await?, "job");
            terminal::print(&format!("{discarded} discarded\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn named(which: &DeadArguments) -> DeadJobs {
    match &which.queue {
        Some(queue) => DeadJobs::Queue(queue.clone()),
        None => DeadJobs::Ids(which.ids.clone()),
    }
}

fn table(jobs: &[Job]) -> Table {
    let mut table = Table::new(&[
        ("job", Align::Left),
        ("queue", Align::Left),
        ("attempts", Align::Right),
        ("ended", Align::Left),
        ("last error", Align::Left),
    ]);
    for job in jobs {
        let error = job.errors.last().map_or("", |error| &error.message);
        table.row(vec![
            job.id.clone().into(),
            job.queue.clone().into(),
            job.attempts.to_string().into(),
            time(job.ended_at).into(),
            printable(error).replace('\n', " ").into(),
        ]);
    }
    table
}

/// Everything about a job, a line each.
fn told(job: &Job, paint: Paint) -> String {
    let state = match job.state() {
        JobState::Unspecified => "unknown",
        JobState::Scheduled => "scheduled",
        JobState::Ready => "ready",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Dead => "dead",
        JobState::Cancelled => "cancelled",
    };
    let asked = if job.cancel_requested { ", asked to stop" } else { "" };
    let mut text = format!("{}\n", paint.strong(&job.id));
    let mut line =
        |name: &str, value: String| text.push_str(&format!("  {} {value}\n", paint.dim(format!("{name:9}"))));
    line("state", format!("{state}{asked}"));
    line("queue", job.queue.clone());
    line("type", job.r#type.clone());
    line("attempts", format!("{} of {}", job.attempts, job.max_attempts));
    line("owner", job.owner.clone());
    for (name, at) in [("published", job.created_at), ("due", job.due_at), ("ended", job.ended_at)] {
        if at.is_some() {
            line(name, time(at));
        }
    }
    for error in &job.errors {
        line(
            "error",
            format!("{} attempt {}: {}", time(error.time), error.attempt, printable(&error.message)),
        );
    }
    text
}

/// A moment in UTC, to the second; empty when there is none.
fn time(at: Option<prost_types::Timestamp>) -> String {
    let moment = at.and_then(|at| jiff::Timestamp::new(at.seconds, 0).ok());
    moment.map(|moment| moment.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use weft_proto::queue::v1::JobError;

    use super::*;

    #[test]
    fn a_job_is_told_with_its_errors() {
        let at = Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 5 });
        let job = Job {
            id: "0193".into(),
            queue: "chat_queue".into(),
            r#type: "weft.queue.v1.ReplyToChat".into(),
            state: JobState::Dead.into(),
            attempts: 5,
            max_attempts: 5,
            owner: "ada".into(),
            created_at: at,
            errors: vec![JobError { attempt: 5, time: at, message: "no".into() }],
            ..Default::default()
        };
        assert_eq!(
            told(&job, Paint::BARE),
            "0193\n  state     dead\n  queue     chat_queue\n  type      weft.queue.v1.ReplyToChat\n  \
             attempts  5 of 5\n  owner     ada\n  published 2027-01-15T08:00:00Z\n  \
             error     2027-01-15T08:00:00Z attempt 5: no\n"
        );
        let rows = table(&[job]).render(Paint::BARE);
        assert!(rows.ends_with("0193  chat_queue         5         no\n"), "{rows}");
    }
}
