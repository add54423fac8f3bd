//! Why a private server could not be had.
use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

/// What testkit functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a private server could not be had, in words that say what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server is not installed.
    #[error("{what} is missing: {install}")]
    Missing {
        /// What was looked for, and where.
        what: String,
        /// The command that installs it.
        install: String,
    },
    /// The server ended instead of starting.
    #[error("{server} ended at its start ({status}); its log ends with:\n{log}")]
    Ended {
        /// Which server.
        server: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote.
        log: String,
    },
    /// The server runs but does not answer.
    #[error("{server} did not answer within {within:?}; its log ends with:\n{log}")]
    Silent {
        /// Which server.
        server: &'static str,
        /// How long it was given.
        within: Duration,
        /// The last lines it wrote.
        log: String,
    },
    /// A tool that comes with the server failed.
    #[error("{program} failed ({status}): {output}")]
    Tool {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        output: String,
    },
    /// A shared server was asked for what would disturb the other tests that use it.
    #[error("{server} is shared by other tests and cannot be stopped or paused: start one of your own")]
    Shared {
        /// Which server.
        server: &'static str,
    },
    /// The operating system refused something.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or program.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("no certificate")]
    Certificate(#[source] rcgen::Error),
    /// A key that cannot be made or used.
    #[error("a key cannot be made or used")]
    Key,
    /// No port could be found or bound.
    #[error("no free port")]
    Port(#[source] io::Error),
}

impl Error {
    /// For `map_err`: the action and the path that an I/O error belongs to.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
