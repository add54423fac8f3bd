//! The configuration of all five services in one file.

use std::{path::Path, path::PathBuf, sync::LazyLock};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};
use weft_runtime::config::{Admin, ConfigError, Lifecycle, Problems, Sources, Telemetry};

use super::plan::{Plan, Stores};

/// The sections of the file.
const SECTIONS: [&str; 6] = ["gateway", "cache", "database", "queue", "assets", "telemetry"];
/// The services that keep something.
const STORES: [&str; 3] = ["database", "queue", "assets"];
/// What is logged unless `[telemetry]` says otherwise: on a terminal, the summary is what there is to read.
const LOG: &str = "warn,weft::audit=info,lapin=off";

/// Everything that `weft up` runs, as each service takes it.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// What the process tells of itself.
    pub telemetry: Telemetry,
    /// `[gateway]`
    pub gateway: weft_gateway::Config,
    /// `[cache]`
    pub cache: weft_cache::Config,
    /// `[database]`
    pub database: weft_database::Config,
    /// `[queue]`
    pub queue: weft_queue::config::Config,
    /// `[assets]`
    pub assets: weft_assets::Config,
    /// Where the embedded backends keep everything, unless a service's own section says otherwise.
    #[serde(skip)]
    pub data_dir: PathBuf,
    /// The services that run as several processes.
    #[serde(skip)]
    pub replicas: Plan,
}

/// `[telemetry]` beside the services.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Process {
    telemetry: Telemetry,
}

impl Config {
    /// Reads every section; all services run in this process.
    ///
    /// # Errors
    /// With everything that is wrong in any of them.
    pub fn load(sources: &Sources, data_dir: &Path) -> Result<Self, ConfigError> {
        Self::load_with(sources, data_dir, &[])
    }

    /// The same, with what `--replicas` was given: `database=3,cache=2`. Replicas are processes of this program, whose
    /// `main` must then be `weft::main`, and have what `sources` say; a later change of the values here reaches this
    /// process only.
    ///
    /// # Errors
    /// With everything that is wrong in any section and with the replicas, stores included that replicas cannot share.
    pub fn load_with(sources: &Sources, data_dir: &Path, replicas: &[String]) -> Result<Self, ConfigError> {
        let mut wrong = Vec::new();
        let plan = Plan::parse(replicas, &mut wrong);
        let config = Self::sections(sources, data_dir, plan, &mut wrong);
        config.filter(|_| wrong.is_empty()).ok_or(ConfigError { problems: wrong })
    }

    /// Every section, unless one of them cannot be read.
    fn sections(sources: &Sources, data_dir: &Path, mut plan: Plan, wrong: &mut Vec<String>) -> Option<Self> {
        for name in sources.sections().filter(|name| !SECTIONS.contains(name)) {
            wrong.push(format!("{name}: unknown key; the sections are {}", SECTIONS.join(", ")));
        }
        let process = note(wrong, process(sources));
        let gateway = note(wrong, section(sources, "gateway", data_dir));
        let cache = note(wrong, section(sources, "cache", data_dir));
        let database = note(wrong, section(sources, "database", data_dir));
        let queue = note(wrong, section(sources, "queue", data_dir));
        let assets = note(wrong, section(sources, "assets", data_dir));
        let stores = Stores {
            cache: cache.as_ref(),
            database: database.as_ref(),
            queue: queue.as_ref(),
            assets: assets.as_ref(),
        };
        plan.refuse(&stores, wrong);
        let (process, gateway, cache) = (process?, gateway?, cache?);
        let (database, queue, assets) = (database?, queue?, assets?);
        note(wrong, plan.read(sources, data_dir))?;
        let (telemetry, data_dir, replicas) = (process.telemetry, data_dir.to_owned(), plan);
        Some(Self { telemetry, gateway, cache, database, queue, assets, data_dir, replicas })
    }

    /// The effective configuration as TOML, secrets redacted.
    ///
    /// # Errors
    /// When it cannot be printed.
    pub fn render(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }
}

fn process(sources: &Sources) -> Result<Process, ConfigError> {
    let log = Table::from_iter([("log".to_owned(), Value::from(LOG))]);
    let base = Table::from_iter([("telemetry".to_owned(), Value::Table(log))]);
    sources.only("telemetry").with_insecure(false).load_section("up", base, "")
}

fn section<C: weft_runtime::Config>(
    sources: &Sources,
    name: &str,
    data_dir: &Path,
) -> Result<C, ConfigError> {
    sources.section(name)?.load_section(name, base(name, data_dir)?, name)
}

/// What a service has in this launcher unless it is configured otherwise: a folder of its own, and the one key with which
/// all of them say who calls.
pub(super) fn base(name: &str, data_dir: &Path) -> Result<Table, ConfigError> {
    let below = |path: &str| {
        let path = data_dir.join(path).to_str().map(Value::from);
        path.ok_or_else(|| ConfigError {
            problems: vec![format!("--data-dir: {} is not UTF-8", data_dir.display())],
        })
    };
    let identity = [("key".to_owned(), below("identity.key")?), ("create".to_owned(), Value::from(true))];
    let mut base = Table::from_iter([("identity".to_owned(), Value::Table(Table::from_iter(identity)))]);
    if STORES.contains(&name) {
        base.insert("data_dir".to_owned(), below(name)?);
    }
    Ok(base)
}

fn note<C>(wrong: &mut Vec<String>, loaded: Result<C, ConfigError>) -> Option<C> {
    loaded.map_err(|error| wrong.extend(error.problems)).ok()
}

impl weft_runtime::Config for Process {
    fn address(&self) -> Option<&str> {
        None
    }

    fn admin(&self) -> &Admin {
        static NONE: LazyLock<Admin> = LazyLock::new(Admin::default);
        &NONE
    }

    fn lifecycle(&self) -> &Lifecycle {
        static NONE: LazyLock<Lifecycle> = LazyLock::new(Lifecycle::default);
        &NONE
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    fn validate(&self, _: &mut Problems) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, Vec<String>> {
        let sources = Sources::from_text(text).map_err(|error| error.problems)?;
        Config::load(&sources, Path::new("state")).map_err(|error| error.problems)
    }

    #[test]
    fn without_a_file_everything_is_embedded_below_the_data_directory() {
        let config = load("").unwrap();
        assert_eq!(config.database.data_dir, Path::new("state/database"));
        assert_eq!(config.queue.data_dir, Path::new("state/queue"));
        assert_eq!(config.assets.data_dir, Path::new("state/assets"));
        assert!(config.cache.redis.url.is_none());
        assert_eq!(config.telemetry.log, LOG);
    }

    #[test]
    fn each_section_reaches_its_service() {
        let text = "[telemetry]\nlog = \"info\"\n[cache]\naddress = \"127.0.0.1:1\"\n[cache.redis]\nurl = \"redis://h\"\n\
                    [queue]\ndata_dir = \"/elsewhere\"\n[[gateway.listeners]]\naddress = \"127.0.0.1:2\"";
        let config = load(text).unwrap();
        assert_eq!((config.telemetry.log.as_str(), config.cache.address.as_str()), ("info", "127.0.0.1:1"));
        assert_eq!(config.cache.redis.url.as_ref().unwrap().expose(), "redis://h");
        assert_eq!(config.queue.data_dir, Path::new("/elsewhere"));
        assert_eq!(config.gateway.listeners[0].address, "127.0.0.1:2");
    }

    #[test]
    fn the_problems_of_all_sections_are_reported_together() {
        let text = "[cach]\n[telemetry]\nlgo = 1\n[cache]\ntypo = 1\n[queue.retry]\nfactor = 0.5\n\
                    [[gateway.listeners]]\naddress = \"0.0.0.0:1\"\n[database]\naddress = 7";
        let problems = load(text).unwrap_err();
        for expected in [
            "cach: unknown key; the sections are gateway, cache",
            "telemetry.lgo: unknown key",
            "cache.typo: unknown key",
            "queue.retry.factor: must be",
            "gateway.listeners[0].address: 0.0.0.0:1 is not loopback",
            "database.address: invalid type",
        ] {
            assert!(
                problems.iter().any(|problem| problem.starts_with(expected)),
                "{expected}: {problems:#?}"
            );
        }
        assert_eq!(problems.len(), 6, "{problems:#?}");
    }

    #[test]
    fn the_printed_configuration_can_be_read_again() {
        let printed = load("[cache.redis]\nurl = \"redis://u:hunter2@h\"").unwrap().render().unwrap();
        assert!(!printed.contains("hunter2"), "{printed}");
        assert_eq!(load(&printed).unwrap().database.data_dir, Path::new("state/database"));
    }
}
