//! How one backend is asked: a connection that is kept between checks, and what it says unasked.

use std::{io, sync::Arc};

use hyper_util::rt::TokioIo;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{Check, grpc::GrpcSession, http::HttpSession};
use crate::{
    link::{self, Wire},
    pool::{Pool, Protocol},
    tls::Stream,
};

/// What was learned of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A check passed.
    Passed,
    /// A check failed.
    Failed(String),
    /// It said that it serves again, after it had said that it does not: it counts at once.
    Serving,
    /// It said that it does not serve: it counts at once.
    NotServing(String),
    /// It is alive, and what it said last stands.
    Alive,
}

/// Asks one backend.
pub(super) enum Session {
    Grpc(Box<GrpcSession>),
    Http(HttpSession),
    Tcp(String),
    None,
}

impl Session {
    /// Of a backend.
    pub(super) fn new(pool: &Arc<Pool>, address: &str, tasks: &TaskTracker) -> Self {
        let settings = pool.settings();
        let authority = settings.authority.as_deref().unwrap_or(address);
        let dial = |protocol| Dial {
            address: address.to_owned(),
            // A check may speak another protocol than the calls.
            wire: Wire { protocol, ..Wire::of(&settings) },
            pool: Arc::clone(pool),
            tasks: tasks.clone(),
        };
        match &settings.check {
            Check::Grpc { service } => {
                let dial = dial(Protocol::Grpc);
                Self::Grpc(Box::new(GrpcSession::new(dial, authority, service, settings.timeout)))
            }
            Check::Http { path } => Self::Http(HttpSession::new(dial(Protocol::Http), authority, path)),
            Check::Tcp => Self::Tcp(address.to_owned()),
            Check::None => Self::None,
        }
    }

    /// Asks now. The caller keeps the time.
    pub(super) async fn ask(&mut self) -> Verdict {
        match self {
            Self::Grpc(session) => session.ask().await,
            Self::Http(session) => session.ask().await,
            Self::Tcp(address) => match link::open(address).await {
                Ok(_) => Verdict::Passed,
                Err(error) => Verdict::Failed(error.to_string()),
            },
            Self::None => Verdict::Passed,
        }
    }

    /// Waits for what the backend says unasked; forever where it says nothing. May be dropped and called again.
    pub(super) async fn listen(&mut self) -> Verdict {
        match self {
            Self::Grpc(session) => session.listen().await,
            Self::Http(session) => session.settle().await,
            Self::Tcp(_) | Self::None => std::future::pending().await,
        }
    }

    /// Closes the kept connection: the next check makes one.
    pub(super) fn close(&mut self) {
        match self {
            Self::Grpc(session) => session.close(),
            Self::Http(session) => session.close(),
            Self::Tcp(_) | Self::None => {}
        }
    }
}

/// Makes a session's connections.
pub(super) struct Dial {
    pub(super) address: String,
    pub(super) wire: Wire,
    pool: Arc<Pool>,
    tasks: TaskTracker,
}

impl Dial {
    /// A connection, and where to run what drives it.
    pub(super) async fn connect(&self) -> io::Result<(TokioIo<Stream>, Lifeline)> {
        let stream = self.wire.connect(&self.address, &self.pool).await?;
        Ok((TokioIo::new(stream), Lifeline::new(&self.tasks)))
    }
}

/// Runs the tasks of one connection; they end when it is dropped, whether the peer answers or hangs.
pub(super) struct Lifeline {
    tasks: Ending,
    _end: DropGuard,
}

impl Lifeline {
    fn new(tasks: &TaskTracker) -> Self {
        let end = CancellationToken::new();
        Self { tasks: Ending { tasks: tasks.clone(), end: end.clone() }, _end: end.drop_guard() }
    }

    /// For hyper's own tasks.
    pub(super) fn executor(&self) -> Ending {
        self.tasks.clone()
    }

    /// Runs a future.
    pub(super) fn run<F: Future<Output: Send> + Send + 'static>(&self, future: F) {
        hyper::rt::Executor::execute(&self.tasks, future);
    }
}

/// An executor whose tasks end with their connection.
#[derive(Clone)]
pub(super) struct Ending {
    tasks: TaskTracker,
    end: CancellationToken,
}

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Ending {
    fn execute(&self, future: F) {
        let end = self.end.clone();
        self.tasks.spawn(async move { end.run_until_cancelled_owned(future).await });
    }
}
