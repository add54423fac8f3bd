//! Which services run as several processes: what `--replicas` asks for, whether it can be, and what each is told.

use std::{collections::BTreeMap, fmt, path::Path};

use toml::{Table, Value};
use weft_runtime::config::{ConfigError, Secret, Sources};

use super::{Config, config::base};

/// The services that may have replicas. The gateway is not among them: it is what they stand behind.
const SERVICES: [&str; 4] = ["cache", "database", "queue", "assets"];
/// The most replicas of one service: beyond it, one machine is the wrong place for them.
const MOST: u16 = 32;

/// The services that run as processes of their own.
#[derive(Clone, Default)]
pub struct Plan {
    services: BTreeMap<&'static str, Wanted>,
}

/// One of them.
#[derive(Clone, Default)]
struct Wanted {
    count: u16,
    /// Its whole configuration, secrets in full.
    table: Table,
}

/// Without the configurations, which hold secrets.
impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.services.iter().map(|(name, wanted)| (name, wanted.count))).finish()
    }
}

impl Plan {
    /// Reads `database=3,cache=2`, given once or several times, and notes everything that is wrong with it.
    pub(super) fn parse(options: &[String], wrong: &mut Vec<String>) -> Self {
        let mut plan = Self::default();
        for one in options.iter().flat_map(|option| option.split(',')) {
            match asked(one.trim()) {
                Ok((name, _)) if plan.services.contains_key(name) => {
                    wrong.push(format!("--replicas {one}: {name} is given twice"));
                }
                Ok((name, count)) => {
                    plan.services.insert(name, Wanted { count, table: Table::new() });
                }
                Err(problem) => wrong.push(format!("--replicas {one}: {problem}")),
            }
        }
        plan
    }

    /// Takes what each replica needs to know of the configuration.
    ///
    /// # Errors
    /// When a section is none.
    pub(super) fn read(&mut self, sources: &Sources, data_dir: &Path) -> Result<(), ConfigError> {
        for (&name, wanted) in &mut self.services {
            let section = sources.section(name)?;
            wanted.table = match name {
                "cache" => section.merged::<weft_cache::Config>(name, base(name, data_dir)?),
                "database" => section.merged::<weft_database::Config>(name, base(name, data_dir)?),
                "queue" => section.merged::<weft_queue::config::Config>(name, base(name, data_dir)?),
                _ => section.merged::<weft_assets::Config>(name, base(name, data_dir)?),
            };
        }
        Ok(())
    }

    /// How many processes a service has, where they are not this one.
    pub(super) fn count(&self, service: &str) -> Option<u16> {
        self.services.get(service).map(|wanted| wanted.count)
    }

    /// Notes the stores that cannot have the replicas that are asked for, and why.
    pub(super) fn refuse(&self, stores: &Stores<'_>, wrong: &mut Vec<String>) {
        for (name, wanted) in self.services.iter().filter(|(_, wanted)| wanted.count > 1) {
            let reason = stores.unshared(name);
            wrong.extend(reason.map(|reason| format!("--replicas {name}={}: {reason}", wanted.count)));
        }
    }

    /// What a replica of a service is given to read: the configuration that was merged at the start, with the peers
    /// that were bound and this process's telemetry.
    pub(super) fn configuration(&self, service: &str, config: &Config) -> anyhow::Result<Table> {
        let mut table = self.services.get(service).map(|wanted| wanted.table.clone()).unwrap_or_default();
        table.insert("telemetry".to_owned(), Value::try_from(&config.telemetry)?);
        let peers = match service {
            "database" => vec![("cache", &config.database.cache), ("queue", &config.database.queue)],
            "queue" => vec![("database", &config.queue.database), ("assets", &config.queue.assets)],
            _ => Vec::new(),
        };
        for (name, peer) in peers {
            set(&mut table, name, "addresses", Value::try_from(&peer.addresses)?);
        }
        Ok(table)
    }
}

/// Sets a key of a table within a table.
pub(super) fn set(table: &mut Table, section: &str, key: &str, value: Value) {
    let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = inner {
        inner.insert(key.to_owned(), value);
    }
}

fn asked(text: &str) -> Result<(&'static str, u16), String> {
    let known = SERVICES.join(", ");
    let Some((name, count)) = text.split_once('=') else {
        return Err("must be SERVICE=NUMBER, such as database=3".to_owned());
    };
    let (name, count) = (name.trim(), count.trim());
    if name == "gateway" {
        return Err(format!("there is one gateway, which the others stand behind; they are {known}"));
    }
    let Some(&name) = SERVICES.iter().find(|service| **service == name) else {
        return Err(format!("there is no service `{name}`; there are {known}"));
    };
    match count.parse() {
        Ok(count @ 1..=MOST) => Ok((name, count)),
        _ => Err(format!("`{count}` is not a number from 1 to {MOST}")),
    }
}

/// The sections that name stores, as far as they could be read.
#[derive(Debug)]
pub(super) struct Stores<'a> {
    pub(super) cache: Option<&'a weft_cache::Config>,
    pub(super) database: Option<&'a weft_database::Config>,
    pub(super) queue: Option<&'a weft_queue::config::Config>,
    pub(super) assets: Option<&'a weft_assets::Config>,
}

impl Stores<'_> {
    /// Why a service's store serves one process only; `None` where replicas share it.
    fn unshared(&self, service: &str) -> Option<&'static str> {
        let url = |url: Option<&Secret>| url.map(|url| url.expose().to_owned()).unwrap_or_default();
        let on_postgres = |url: &str| url.starts_with("postgres://") || url.starts_with("postgresql://");
        let (shared, reason) = match service {
            "cache" => (
                !url(self.cache?.redis.url.as_ref()).is_empty(),
                "an in-process cache is seen by its own process only; \
                 set cache.redis.url or REDIS_URL, which replicas share",
            ),
            "database" => (
                on_postgres(&url(self.database?.database.url.as_ref())),
                "SQLite is written by one process only; \
                 set database.database.url or DATABASE_URL to PostgreSQL, which replicas share",
            ),
            "queue" => (
                on_postgres(self.queue?.jobs.url.expose()),
                "the SQLite job store is written by one process only; \
                 set queue.jobs.url or DATABASE_URL to PostgreSQL, which replicas share",
            ),
            _ => (
                !self.assets?.storage.s3.bucket.is_empty(),
                "a local directory is kept by one process only; \
                 set assets.storage.s3.bucket, which replicas share",
            ),
        };
        (!shared).then_some(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = "[cache.redis]\nurl = \"redis://h\"\n[database.database]\nurl = \"postgres://u:hunter2@h/d\"\n\
        [database.outbox]\npoll = \"2s\"\n[queue.jobs]\nurl = \"postgresql://h/d\"\n[assets.storage.s3]\nbucket = \"b\"\n";

    fn parse(options: &[&str]) -> Result<Plan, Vec<String>> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let mut wrong = Vec::new();
        let plan = Plan::parse(&options, &mut wrong);
        if wrong.is_empty() { Ok(plan) } else { Err(wrong) }
    }

    fn load(text: &str, options: &[&str]) -> Result<Config, Vec<String>> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let sources = Sources::from_text(text).unwrap();
        Config::load_with(&sources, Path::new("state"), &options).map_err(|error| error.problems)
    }

    #[test]
    fn replicas_are_given_with_commas_or_one_by_one() {
        let plan = parse(&["database=3,cache=2", "queue = 1"]).unwrap();
        let counts = SERVICES.map(|name| plan.count(name));
        assert_eq!(counts, [Some(2), Some(3), Some(1), None]);
        assert_eq!(parse(&[]).unwrap().count("cache"), None);
    }

    #[test]
    fn every_bad_name_and_number_is_told() {
        let wrong = parse(&["databse=3,cache=0,queue=x,assets", "gateway=2,database=33", "cache=2,cache=3"]);
        let expected = [
            "--replicas databse=3: there is no service `databse`; there are cache, database, queue, assets",
            "--replicas cache=0: `0` is not a number from 1 to 32",
            "--replicas queue=x: `x` is not a number from 1 to 32",
            "--replicas assets: must be SERVICE=NUMBER, such as database=3",
            "--replicas gateway=2: there is one gateway, which the others stand behind; they are cache, database, queue, assets",
            "--replicas database=33: `33` is not a number from 1 to 32",
            "--replicas cache=3: cache is given twice",
        ];
        assert_eq!(wrong.unwrap_err(), expected);
    }

    #[test]
    fn embedded_stores_refuse_more_than_one_with_all_their_reasons() {
        let wrong =
            load("[gateway]\ntypo = 1", &["cache=2,database=2,queue=3,assets=2", "cash=2"]).unwrap_err();
        for expected in [
            "--replicas cash=2: there is no service",
            "gateway.typo: unknown key",
            "--replicas assets=2: a local directory",
            "--replicas cache=2: an in-process cache",
            "--replicas database=2: SQLite",
            "--replicas queue=3: the SQLite job store",
        ] {
            assert!(wrong.iter().any(|problem| problem.starts_with(expected)), "{expected}: {wrong:#?}");
        }
        assert_eq!(wrong.len(), 6, "{wrong:#?}");
        assert!(load("", &["cache=1,database=1,queue=1,assets=1"]).is_ok(), "one process is enough for each");
        assert!(load(REAL, &["cache=2,database=2,queue=3,assets=2"]).is_ok());
    }

    #[test]
    fn a_replica_is_told_everything_that_was_configured_and_bound() {
        let mut config = load(REAL, &["database=2"]).unwrap();
        config.database.cache.addresses = vec!["127.0.0.1:1".into(), "127.0.0.1:2".into()];
        let table = config.replicas.configuration("database", &config).unwrap();
        let text = toml::to_string(&table).unwrap();
        let told: weft_database::Config =
            Sources::from_text(&text).unwrap().load("database", Table::new()).unwrap();
        assert_eq!(told.database.url.unwrap().expose(), "postgres://u:hunter2@h/d");
        assert_eq!(told.outbox.poll.as_secs(), 2);
        assert_eq!(told.cache.addresses, ["127.0.0.1:1", "127.0.0.1:2"]);
        assert_eq!(
            (told.telemetry.log.as_str(), told.data_dir.as_path()),
            ("warn,weft::audit=info,lapin=off", Path::new("state/database"))
        );
        assert!(!format!("{config:?}").contains("hunter2"), "no secret is printed");
    }
}
