//! Where configuration comes from, and in which order it counts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::{Config, ConfigError, Origin, Problems, validate_common};

/// Everything a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file and, for a part of it, the section's name.
    path: Option<PathBuf>,
    part: Option<String>,
    file: Table,
    environment: Vec<(String, String)>,
    insecure: bool,
}

impl Sources {
    /// Reads a file, if there is one, and the environment of the process.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML.
    pub fn read(file: Option<&Path>) -> Result<Self, ConfigError> {
        #[allow(clippy::disallowed_methods)] // this is where the environment is read
        let environment = std::env::vars().collect();
        let path = file.map(Path::to_owned);
        let file = file.map_or_else(|| Ok(Table::new()), read_file)?;
        Ok(Self { path, part: None, file, environment, insecure: false })
    }

    /// The same with what the file holds now.
    fn again(&self, path: &Path) -> Result<Self, ConfigError> {
        let whole = Self { file: read_file(path)?, ..self.clone() };
        self.part.as_deref().map_or_else(|| Ok(whole.clone()), |part| whole.section(part))
    }

    /// From a text in the place of a file, and no environment; for tests, and for a process that is given what
    /// another one has merged.
    ///
    /// # Errors
    /// When the text is not TOML.
    pub fn from_text(text: &str) -> Result<Self, ConfigError> {
        let file = text.parse().map_err(|error: toml::de::Error| problem(error.to_string()))?;
        Ok(Self { file, ..Self::default() })
    }

    /// The same with an environment.
    #[must_use]
    pub fn with_environment(mut self, environment: Vec<(String, String)>) -> Self {
        self.environment = environment;
        self
    }

    /// The same with `lifecycle.insecure` set, for `--insecure`.
    #[must_use]
    pub fn with_insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
    }

    /// The part of the file under a section, for a launcher that runs several services.
    ///
    /// # Errors
    /// When it is not a table.
    pub fn section(&self, name: &str) -> Result<Self, ConfigError> {
        let file = match self.file.get(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table.clone(),
            Some(_) => return Err(problem(format!("{name}: must be a table"))),
        };
        Ok(Self { part: Some(name.to_owned()), file, ..self.clone() })
    }

    /// The file with nothing but one section, still under its name: for what a launcher keeps beside its services.
    #[must_use]
    pub fn only(&self, name: &str) -> Self {
        let file = self.file.iter().filter(|(key, _)| *key == name);
        Self { file: file.map(|(key, value)| (key.clone(), value.clone())).collect(), ..self.clone() }
    }

    /// The names at the top of the file.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.file.keys().map(String::as_str)
    }

    /// Builds a service's configuration: its defaults, then `base`, the operators' names, the file, and
    /// `WEFT_<SERVICE>__<KEY>`.
    ///
    /// # Errors
    /// With every unknown key, the first value of a wrong type, and everything that `validate` reports.
    pub fn load<C: Config>(&self, service: &str, base: Table) -> Result<C, ConfigError> {
        self.load_section(service, base, "")
    }

    /// As [`load`](Self::load), with a section's name before the keys in problems.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_section<C: Config>(
        &self,
        service: &str,
        base: Table,
        section: &str,
    ) -> Result<C, ConfigError> {
        let mut problems = Problems::of(section);
        let config: Option<C> = typed(self.merged::<C>(service, base.clone()), &mut problems);
        if let Some(config) = &config {
            validate_common(config, &mut problems);
            config.validate(&mut problems);
        }
        problems.into_result()?;
        let mut config = config.ok_or_else(|| problem("no configuration".to_owned()))?;
        if let Some(path) = &self.path {
            let (sources, path) = (self.clone(), path.clone());
            let (service, section) = (service.to_owned(), section.to_owned());
            config.remember(Origin::new(path.clone(), move || {
                sources.again(&path)?.load_section(&service, base.clone(), &section)
            }));
        }
        Ok(config)
    }

    /// What [`load`](Self::load) takes a configuration from: every key that is set anywhere, secrets in full. For a
    /// launcher that hands it to another process; do not print it.
    #[must_use]
    pub fn merged<C: Config>(&self, service: &str, base: Table) -> Table {
        let mut merged = own_lifecycle::<C>();
        merge(&mut merged, base);
        for (name, key) in C::operator_names() {
            if let Some((_, value)) = self.environment.iter().find(|(variable, _)| variable == name) {
                set(&mut merged, &key.split('.').collect::<Vec<_>>(), scalar(value));
            }
        }
        if let Some((_, value)) =
            self.environment.iter().find(|(name, _)| name == "OTEL_EXPORTER_OTLP_ENDPOINT")
        {
            set(&mut merged, &["telemetry", "otlp_endpoint"], Value::String(value.clone()));
        }
        merge(&mut merged, self.file.clone());
        let prefix = format!("WEFT_{}__", service.to_uppercase());
        for (name, value) in &self.environment {
            if let Some(key) = name.strip_prefix(&prefix) {
                let key = key.to_lowercase();
                set(&mut merged, &key.split("__").collect::<Vec<_>>(), scalar(value));
            }
        }
        if self.insecure {
            set(&mut merged, &["lifecycle", "insecure"], Value::Boolean(true));
        }
        merged
    }
}

/// The service's own defaults for the part that all services have alike: a file that gives some of its keys leaves the
/// others to the service, not to the part. A configuration without that part, such as a launcher's, gets none.
fn own_lifecycle<C: Config>() -> Table {
    let default = Table::try_from(C::default()).unwrap_or_default();
    default.into_iter().filter(|(key, _)| key == "lifecycle").collect()
}

/// How many sockets a service manager passed to this very process, from descriptor 3 on: `LISTEN_PID` and
/// `LISTEN_FDS`, as `sd_listen_fds(3)` has them.
pub(crate) fn passed_sockets() -> i32 {
    #[allow(clippy::disallowed_methods)] // this is where the environment is read
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let ours = number("LISTEN_PID").is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id()));
    if ours { number("LISTEN_FDS").unwrap_or_default() } else { 0 }
}

fn typed<C: Config>(table: Table, problems: &mut Problems) -> Option<C> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let value = Value::Table(table);
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let result = C::deserialize(serde_ignored::Deserializer::new(tracked, &mut note));
    for key in unknown {
        // Optional tables show up as `?` in the path.
        problems.push(key.replace(".?", ""), "unknown key");
    }
    match result {
        Ok(config) => Some(config),
        Err(error) => {
            problems.push(track.path(), error.message());
            None
        }
    }
}

/// Prints a configuration as TOML, secrets redacted.
#[must_use]
pub fn render<C: Config>(config: &C) -> String {
    toml::to_string_pretty(config).unwrap_or_else(|error| format!("# cannot be printed: {error}\n"))
}

fn read_file(path: &Path) -> Result<Table, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| problem(format!("{}: {error}", path.display())))?;
    text.parse().map_err(|error: toml::de::Error| problem(format!("{}: {error}", path.display())))
}

fn problem(text: String) -> ConfigError {
    ConfigError { problems: vec![text] }
}

/// A value from the environment: a TOML value where it is one other than a bare word, else the text itself.
fn scalar(text: &str) -> Value {
    let parsed: Option<Table> = format!("value = {text}").parse().ok();
    parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn set(table: &mut Table, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert((*first).to_owned(), value);
        return;
    }
    let entry = table.entry(*first).or_insert_with(|| Value::Table(Table::new()));
    if !entry.is_table() {
        *entry = Value::Table(Table::new());
    }
    if let Value::Table(inner) = entry {
        set(inner, rest, value);
    }
}

fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::config::{Admin, Lifecycle, Secret, Telemetry, duration};

    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Redis {
        url: Option<Secret>,
    }

    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(default)]
    struct Example {
        address: String,
        admin: Admin,
        lifecycle: Lifecycle,
        telemetry: Telemetry,
        redis: Redis,
        #[serde(with = "duration")]
        ttl: Duration,
        limit: u32,
        #[serde(skip)]
        origin: Option<Origin<Self>>,
    }

    impl Default for Example {
        fn default() -> Self {
            Self {
                address: "127.0.0.1:0".into(),
                admin: Admin::default(),
                lifecycle: Lifecycle { drain_delay: Duration::from_secs(9), ..Lifecycle::default() },
                telemetry: Telemetry::default(),
                redis: Redis::default(),
                ttl: Duration::from_secs(3600),
                limit: 7,
                origin: None,
            }
        }
    }

    impl Config for Example {
        fn address(&self) -> Option<&str> {
            Some(&self.address)
        }
        fn admin(&self) -> &Admin {
            &self.admin
        }
        fn lifecycle(&self) -> &Lifecycle {
            &self.lifecycle
        }
        fn telemetry(&self) -> &Telemetry {
            &self.telemetry
        }
        fn operator_names() -> &'static [(&'static str, &'static str)] {
            &[("REDIS_URL", "redis.url")]
        }
        fn remember(&mut self, origin: Origin<Self>) {
            self.origin = Some(origin);
        }
        fn validate(&self, problems: &mut Problems) {
            problems.require(!self.ttl.is_zero(), "ttl", "must be at least 1s");
        }
    }

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Example, Vec<String>> {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let sources = Sources::from_text(text).unwrap().with_environment(environment);
        sources.load("example", Table::new()).map_err(|error| error.problems)
    }

    #[test]
    fn the_environment_is_over_the_file_is_over_operators_names_is_over_defaults() {
        let config = load("", &[]).unwrap();
        assert_eq!((config.ttl, config.limit), (Duration::from_secs(3600), 7));

        let operators = [("REDIS_URL", "redis://one")];
        assert_eq!(load("", &operators).unwrap().redis.url.unwrap().expose(), "redis://one");
        let file = "ttl = \"90s\"\n[redis]\nurl = \"redis://two\"";
        let config = load(file, &operators).unwrap();
        assert_eq!(
            (config.ttl, config.redis.url.unwrap().expose()),
            (Duration::from_secs(90), "redis://two")
        );
        let own = [
            ("REDIS_URL", "redis://one"),
            ("WEFT_EXAMPLE__REDIS__URL", "redis://three"),
            ("WEFT_EXAMPLE__LIMIT", "9"),
        ];
        let config = load(file, &own).unwrap();
        assert_eq!((config.limit, config.redis.url.unwrap().expose()), (9, "redis://three"));
    }

    #[test]
    fn variables_that_kubernetes_injects_are_ignored() {
        let injected =
            [("WEFT_EXAMPLE_PORT", "tcp://10.0.0.1:80"), ("WEFT_EXAMPLE_SERVICE_HOST", "10.0.0.1")];
        assert!(load("", &injected).is_ok());
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let problems =
            load("ttl = \"0s\"\ntypo = 1\naddress = \"0.0.0.0:1\"\n[redis]\nurll = \"x\"", &[]).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(problems.iter().any(|p| p == "typo: unknown key"));
        assert!(problems.iter().any(|p| p == "redis.urll: unknown key"));
        assert!(problems.iter().any(|p| p.starts_with("address: 0.0.0.0:1 is not loopback")));
        assert!(problems.iter().any(|p| p.starts_with("ttl: must be")));
    }

    #[test]
    fn a_value_of_the_wrong_type_names_its_key() {
        assert!(load("ttl = \"soon\"", &[]).unwrap_err()[0].starts_with("ttl: \"soon\" is not a duration"));
        assert!(
            load("[lifecycle]\nmax_in_flight = \"x\"", &[]).unwrap_err()[0]
                .starts_with("lifecycle.max_in_flight")
        );
        assert!(load("ttl = \"-5s\"", &[]).unwrap_err()[0].contains("negative"));
    }

    #[test]
    fn a_part_of_the_lifecycle_leaves_the_rest_to_the_service() {
        let lifecycle = load("[lifecycle]\nmax_in_flight = 3", &[]).unwrap().lifecycle;
        assert_eq!((lifecycle.max_in_flight, lifecycle.drain_delay), (3, Duration::from_secs(9)));
    }

    #[test]
    fn a_section_of_a_file_is_read_again_as_it_was_read_first() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weft.toml");
        fs::write(&file, "[example]\nlimit = 3").unwrap();
        let section = Sources::read(Some(&file)).unwrap().with_insecure(true).section("example").unwrap();
        let config: Example = section.load_section("example", Table::new(), "example").unwrap();
        let origin = config.origin.unwrap().adjusted(|config| config.limit += 1);
        fs::write(&file, "[example]\nlimit = 5\naddress = \"0.0.0.0:1\"").unwrap();
        assert_eq!(origin.read().unwrap().limit, 6, "--insecure still holds");
        fs::write(&file, "[example]\ntypo = 5").unwrap();
        assert_eq!(origin.read().unwrap_err().problems, ["example.typo: unknown key"]);
        fs::remove_file(&file).unwrap();
        assert!(origin.read().unwrap_err().problems[0].contains("weft.toml"));
    }

    #[test]
    fn sections_are_taken_apart() {
        let sources = Sources::from_text("[example]\nlimit = 3\n[telemetry]\nlog = \"warn\"").unwrap();
        let example = sources.section("example").unwrap();
        assert_eq!(example.load::<Example>("example", Table::new()).unwrap().limit, 3);
        let rest = sources.only("telemetry").load::<Example>("example", Table::new()).unwrap();
        assert_eq!((rest.telemetry.log.as_str(), rest.limit), ("warn", 7));
        assert_eq!(sources.sections().collect::<Vec<_>>(), ["example", "telemetry"]);
    }

    #[test]
    fn what_was_merged_gives_the_same_configuration_without_file_and_environment() {
        let environment = [("REDIS_URL", "redis://u:hunter2@h"), ("WEFT_EXAMPLE__LIMIT", "9")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let sources = Sources::from_text("ttl = \"90s\"").unwrap().with_environment(environment);
        let merged = sources.with_insecure(true).merged::<Example>("example", Table::new());
        let config = load(&toml::to_string(&merged).unwrap(), &[]).unwrap();
        assert_eq!((config.ttl, config.limit), (Duration::from_secs(90), 9));
        assert_eq!(config.redis.url.unwrap().expose(), "redis://u:hunter2@h");
        assert!(config.lifecycle.insecure);
    }

    #[test]
    fn off_loopback_needs_insecure() {
        let sources = Sources::from_text("address = \"0.0.0.0:1\"").unwrap().with_insecure(true);
        assert!(sources.load::<Example>("example", Table::new()).is_ok());
    }

    #[test]
    fn a_printed_configuration_holds_no_secret_and_can_be_read_again() {
        let config = load("[redis]\nurl = \"redis://u:hunter2@h\"", &[]).unwrap();
        let printed = render(&config);
        assert!(!printed.contains("hunter2"), "{printed}");
        assert_eq!(load(&printed, &[]).unwrap().ttl, config.ttl);
    }
}
