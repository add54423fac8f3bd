//! The command line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use weft_balance::{MAX_WEIGHT, Policy};
use weft_runtime::config::Secret;

use crate::units;

/// The performance tier of an AI-chat backend: gateway, cache, database, queue and assets.
#[derive(Debug, Parser)]
#[command(name = "weft", version, about, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) mesh: MeshOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which mesh, and as whom.
#[derive(Clone, Debug, Args)]
pub(crate) struct MeshOptions {
    /// The gateway
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:7080")]
    pub(crate) gateway: String,
    /// The gateway's admin port
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:7090")]
    pub(crate) admin: String,
    /// On whose behalf [default: local, or whoever the token names]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// A file with an API key or a token, for a gateway that asks who calls; `WEFT_TOKEN` holds one itself
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    #[arg(long = "token-env", env = "WEFT_TOKEN", hide = true, hide_env = true, hide_env_values = true)]
    pub(crate) token_env: Option<Secret>,
    /// The longest to wait for a call, for an answer (ask), or without any progress (ingest) [default: 30s, 5m, 2m]
    #[arg(long, global = true, value_name = "TIME", value_parser = units::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Print without colour, as it is done when `NO_COLOR` is set
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    #[arg(long = "no-color-env", env = "NO_COLOR", hide = true, hide_env = true, default_value = "")]
    pub(crate) no_color_env: String,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run all five services in this process
    Up(UpArguments),
    /// Upload files and folders and make them searchable
    Ingest(IngestArguments),
    /// Ask a question about what was ingested
    Ask(AskArguments),
    /// Find passages
    Search(SearchArguments),
    /// List documents with their state
    Documents(DocumentsArguments),
    /// Store, list and fetch assets
    #[command(subcommand)]
    Asset(AssetCommand),
    /// Look after jobs that gave up
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Look at the gateway's pools, and change them
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// Show every replica of every service
    Status(StatusArguments),
    /// Make a certificate for development, and the authority that vouches for it
    Cert(CertArguments),
    /// Make and revoke API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Run one service, as `weft-<service>` does
    #[command(hide = true)]
    Serve(ServeArguments),
    /// Extract the text of a file on stdin; run by the queue
    #[command(hide = true)]
    Extract {
        /// As the queue sets them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        limits: Vec<String>,
    },
}

/// `weft up`
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct UpArguments {
    /// TOML file with the sections [gateway] [cache] [database] [queue] [assets] [telemetry]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = ".weft")]
    pub(crate) data_dir: PathBuf,
    /// Listen on addresses other than loopback although nobody is authenticated
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Print the effective configuration, secrets redacted, and exit
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Run cache, database, queue or assets as so many processes, such as database=3,cache=2; on backends they share
    #[arg(long, value_name = "SERVICE=N,…")]
    pub(crate) replicas: Vec<String>,
}

/// `weft cert`
#[derive(Clone, Debug, Args)]
pub(crate) struct CertArguments {
    /// Names and addresses that it is for; the first names its files
    #[arg(value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    pub(crate) names: Vec<String>,
    /// Where the files go; the authority there is used again
    #[arg(long, value_name = "DIR", default_value = ".weft/certificates")]
    pub(crate) out: PathBuf,
    /// How long it is good for
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
}

/// `weft key …`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key, and print it, which is the only time that it can be read
    Create {
        /// Whose key it is
        #[arg(value_name = "USER")]
        user: String,
        /// What its holder is: user, service, operator, or a role of your own; may be given several times
        #[arg(long = "role", value_name = "ROLE", default_value = "user")]
        roles: Vec<String>,
        /// Calls that it is for, such as weft.database.v1.* or /v1/*; all of them by default
        #[arg(long = "scope", value_name = "CALLS")]
        scopes: Vec<String>,
        /// How long it is good for; for ever by default
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: Option<u32>,
        #[command(flatten)]
        file: KeyFile,
    },
    /// List keys
    Ls(KeyFile),
    /// Revoke keys: the gateway refuses them within a second
    Revoke {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        file: KeyFile,
    },
}

/// Where API keys are kept.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeyFile {
    /// The gateway's `auth.api_keys`
    #[arg(long = "file", value_name = "FILE", default_value = ".weft/api-keys.toml")]
    pub(crate) path: PathBuf,
}

/// `weft serve`
#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArguments {
    /// As a replica of the `weft up` that holds the other end of stdin
    #[arg(long)]
    pub(crate) supervised: bool,
    /// Which service
    pub(crate) service: Served,
    /// As `weft-<service>` takes them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

/// A service that can be a process of its own.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Served {
    Gateway,
    Cache,
    Database,
    Queue,
    Assets,
}

/// `weft ingest`
#[derive(Clone, Debug, Args)]
pub(crate) struct IngestArguments {
    /// Files and folders; a folder gives its text and source files
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Take every file of a folder, whatever its extension
    #[arg(long)]
    pub(crate) all: bool,
    /// How many files to send at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) concurrency: u16,
}

/// `weft ask`
#[derive(Clone, Debug, Args)]
pub(crate) struct AskArguments {
    /// The question
    pub(crate) question: String,
    /// Go on with this chat
    #[arg(long, value_name = "ID")]
    pub(crate) chat: Option<String>,
}

/// `weft search`
#[derive(Clone, Debug, Args)]
pub(crate) struct SearchArguments {
    /// What to look for
    pub(crate) text: String,
    /// The most passages to show
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(i32).range(1..=100))]
    pub(crate) limit: i32,
}

/// `weft documents`
#[derive(Clone, Debug, Args)]
pub(crate) struct DocumentsArguments {
    /// Only those in this state
    #[arg(long)]
    pub(crate) state: Option<State>,
}

/// The state of a document.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum State {
    Pending,
    Ready,
    Failed,
}

/// `weft asset …`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AssetCommand {
    /// Upload files
    Put {
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Let everybody who knows its URL read it
        #[arg(long)]
        public: bool,
        /// A surrogate key, to purge by; may be given several times
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
    },
    /// Download the original bytes
    Get {
        /// The asset's id
        id: String,
        /// Where to write them
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// List assets
    Ls,
    /// Delete assets
    Rm {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// `weft jobs …`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// List dead letters
    Dead {
        /// Only of this queue
        #[arg(long, default_value = "")]
        queue: String,
    },
    /// Show a job with its errors
    Show {
        /// The job's id
        id: String,
    },
    /// Put dead letters back on their queue
    Redrive(DeadArguments),
    /// Give dead letters up for good
    Discard(DeadArguments),
}

/// Which dead letters.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct DeadArguments {
    /// Their ids
    pub(crate) ids: Vec<String>,
    /// All of this queue
    #[arg(long)]
    pub(crate) queue: Option<String>,
}

/// `weft gateway …`
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// List every pool with its backends
    Pools(StatusArguments),
    /// Show the last picks of a pool: who was compared, by what, and why one won
    Explain {
        /// The pool, as `weft gateway pools` lists it
        pool: String,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Replay the calls of an access log against other balancing
    Replay(ReplayArguments),
    /// Give a backend no more new calls
    Drain(BackendArguments),
    /// Give a drained backend calls again
    Undrain(BackendArguments),
    /// Set a backend's share of the calls
    Weight {
        #[command(flatten)]
        backend: BackendArguments,
        /// Relative to the other backends
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
        weight: u32,
    },
    /// Add a backend to a pool, until the gateway ends
    Add {
        #[command(flatten)]
        backend: BackendArguments,
        /// Its share of the calls relative to the other backends
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        weight: u32,
    },
    /// Remove a backend from a pool, until the gateway ends
    Remove(BackendArguments),
}

/// Which backend.
#[derive(Clone, Debug, Args)]
pub(crate) struct BackendArguments {
    /// The pool, as `weft gateway pools` lists it
    pub(crate) pool: String,
    /// The backend's `host:port`
    pub(crate) address: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `weft gateway replay`
#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayArguments {
    /// The access log, as the gateway writes it where its `access_log` is set; - for stdin
    pub(crate) file: PathBuf,
    /// The pool whose calls are replayed
    #[arg(long)]
    pub(crate) pool: String,
    /// A policy to compare, as `balance` of a pool names it; all of them by default
    #[arg(long = "balance", value_name = "POLICY", value_parser = policy)]
    pub(crate) policies: Vec<Policy>,
    /// A backend's weight; 1 by default
    #[arg(long = "weight", value_name = "ADDRESS=N", value_parser = weight)]
    pub(crate) weights: Vec<(String, u32)>,
    /// How many calls each backend serves at a time, the others waiting; 0 for any number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) slots: usize,
    /// The most calls in flight to a backend; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) max_in_flight: u64,
    /// Read no more than so many calls
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) limit: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn policy(text: &str) -> Result<Policy, String> {
    let named = Policy::ALL.into_iter().find(|policy| policy.as_str() == text);
    named.ok_or_else(|| format!("must be one of {}", Policy::ALL.map(Policy::as_str).join(", ")))
}

fn weight(text: &str) -> Result<(String, u32), String> {
    let (address, weight) = text.rsplit_once('=').ok_or("must be ADDRESS=N")?;
    match weight.parse() {
        Ok(weight @ 1..=MAX_WEIGHT) => Ok((address.to_owned(), weight)),
        _ => Err(format!("the weight must be 1 to {MAX_WEIGHT}")),
    }
}

/// `weft status`
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArguments {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_the_mesh_may_stand_anywhere() {
        let cli = Cli::parse_from(["weft", "ask", "why?", "--user", "ada", "--timeout", "90s"]);
        assert_eq!(
            (cli.mesh.user.as_deref(), cli.mesh.timeout),
            (Some("ada"), Some(Duration::from_secs(90)))
        );
    }

    #[test]
    fn dead_letters_are_named_by_ids_or_by_queue_and_not_by_both() {
        let parse =
            |arguments: &[&str]| Cli::try_parse_from([&["weft", "jobs", "redrive"], arguments].concat());
        assert!(parse(&["a", "b"]).is_ok());
        assert!(parse(&["--queue", "chat_queue"]).is_ok());
        assert!(parse(&[]).is_err());
        assert!(parse(&["a", "--queue", "chat_queue"]).is_err());
    }
}
