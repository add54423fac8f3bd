//! The configuration of origins: what this service fetches, keeps and delivers for other servers.

use std::{net::Ipv6Addr, time::Duration};

use reqwest::Url;
use serde::{Deserialize, Serialize};
use weft_runtime::config::{Problems, duration};

/// Paths that this service serves itself.
const OWN: [&str; 3] = ["/files/", "/weft.", "/grpc."];

/// An origin: a server behind this one, for the paths below a prefix.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct OriginConfig {
    /// Which paths are the origin's: with `/` at its end all below it, else this path alone. Must be set; of several that
    /// fit the longest counts.
    pub path_prefix: String,
    /// Only requests for this `Host`, port aside, are the origin's. Default empty: those for any.
    pub host: String,
    /// Where the origin is, like `http://10.0.0.7:8080`; a path in it goes before that of a request. Must be set.
    pub url: String,
    /// Time limit of a fetch that is kept, whole; for what is passed on, until the response begins and then for each
    /// further piece of it. Default `30s`: longer than a static file takes, shorter than a browser waits.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Time limit of a connection's making. Default `2s`: whoever is there answers sooner, and so long a request waits
    /// for an origin that is gone.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Largest response in bytes that is kept; larger ones are passed on. Default 64 MiB.
    pub max_bytes: u64,
    /// How long a response counts as fresh that does not say it itself. Default `1m`: a deployment shows within it.
    #[serde(with = "duration")]
    pub default_ttl: Duration,
    /// How long after it went stale a response is still given when the origin fails. Default `24h`, over most outages.
    #[serde(with = "duration")]
    pub stale_if_error: Duration,
    /// How long after it went stale a response is still given while it is fetched again. Default `1m`, so that nobody
    /// waits for what is in demand.
    #[serde(with = "duration")]
    pub stale_while_revalidate: Duration,
    /// Which paths get `public, max-age=31536000, immutable`. Default `hashed`.
    pub immutable: Immutable,
}

/// Which paths of an origin never change what they give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Immutable {
    /// Those whose file name looks like it holds a hash of its content.
    #[default]
    Hashed,
    /// All: the origin promises it.
    Always,
    /// None.
    Never,
}

/// What is kept of all origins together.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct OriginCacheConfig {
    /// Bytes kept, compressed forms included and 4 KiB counted for each response beside its bytes; what was not asked for
    /// the longest goes first. Default 1 GiB: the static files of many applications.
    pub max_total_bytes: u64,
    /// How often what is kept is compared with the store, where other replicas write too. Default `5m`.
    #[serde(with = "duration")]
    pub sweep_interval: Duration,
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self {
            path_prefix: String::new(),
            host: String::new(),
            url: String::new(),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(2),
            max_bytes: 64 * 1024 * 1024,
            default_ttl: Duration::from_secs(60),
            stale_if_error: Duration::from_secs(24 * 3600),
            stale_while_revalidate: Duration::from_secs(60),
            immutable: Immutable::default(),
        }
    }
}

impl Default for OriginCacheConfig {
    fn default() -> Self {
        Self { max_total_bytes: 1024 * 1024 * 1024, sweep_interval: Duration::from_secs(300) }
    }
}

impl OriginConfig {
    /// Its URL; `None` when it is none of the form that an origin must have.
    #[must_use]
    pub fn upstream(&self) -> Option<Url> {
        let url = Url::parse(&self.url).ok()?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        plain.then_some(url)
    }

    fn validate(&self, key: &str, max_total_bytes: u64, problems: &mut Problems) {
        if let Some(problem) = wrong_prefix(&self.path_prefix) {
            problems.push(format!("{key}.path_prefix"), format!("{problem}, is \"{}\"", self.path_prefix));
        }
        if !is_host(&self.host) {
            let problem = format!("must be a host name without a port, is \"{}\"", self.host);
            problems.push(format!("{key}.host"), problem);
        }
        if self.upstream().is_none() {
            // The URL itself is not repeated: one that is refused may hold a password.
            let problem = "must be http:// or https:// with a host, and have no user, query or fragment";
            problems.push(format!("{key}.url"), problem);
        }
        if !(1..=max_total_bytes).contains(&self.max_bytes) {
            let problem = format!("must be 1 to origin_cache.max_total_bytes, is {}", self.max_bytes);
            problems.push(format!("{key}.max_bytes"), problem);
        }
        for (name, value) in [("timeout", self.timeout), ("connect_timeout", self.connect_timeout)] {
            if value < Duration::from_millis(100) {
                problems.push(format!("{key}.{name}"), format!("must be at least 100ms, is {value:?}"));
            }
        }
    }
}

/// Reports everything that is wrong with the origins and what is kept of them.
pub(super) fn validate(origins: &[OriginConfig], cache: &OriginCacheConfig, problems: &mut Problems) {
    for (index, origin) in origins.iter().enumerate() {
        let key = format!("origins[{index}]");
        origin.validate(&key, cache.max_total_bytes, problems);
        let same = |other: &OriginConfig| {
            other.path_prefix == origin.path_prefix && other.host.eq_ignore_ascii_case(&origin.host)
        };
        if origins[..index].iter().any(same) {
            problems.push(key, "has the path_prefix and host of an earlier one");
        }
    }
    if cache.sweep_interval < Duration::from_secs(1) {
        problems.push(
            "origin_cache.sweep_interval",
            format!("must be at least 1s, is {:?}", cache.sweep_interval),
        );
    }
}

/// A name, or an address of version 6 in brackets; empty for any.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok()),
        None => text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)),
    }
}

/// What is wrong with a prefix. Only what needs no escaping: no two spellings name the same path, and none is a pattern
/// to the router.
fn wrong_prefix(prefix: &str) -> Option<&'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~@+$".contains(&byte);
    if !prefix.starts_with('/') || !prefix.bytes().all(plain) {
        return Some("must begin with / and hold letters, digits and -._~@+$ only");
    }
    let inner = prefix.trim_start_matches('/').trim_end_matches('/');
    let dots = inner.split('/').any(|segment| matches!(segment, "." | ".."));
    if dots || prefix.contains("//") {
        return Some("must not hold empty or dot segments");
    }
    let own = prefix == "/health" || OWN.iter().any(|own| prefix.starts_with(own));
    own.then_some("must not be a path that this service serves itself")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(origins: &[OriginConfig]) -> Vec<String> {
        let mut problems = Problems::default();
        validate(origins, &OriginCacheConfig::default(), &mut problems);
        problems.into_result().err().map_or(Vec::new(), |error| error.problems)
    }

    fn origin(path_prefix: &str, url: &str) -> OriginConfig {
        OriginConfig { path_prefix: path_prefix.into(), url: url.into(), ..OriginConfig::default() }
    }

    #[test]
    fn what_an_origin_may_be() {
        for prefix in
            ["/", "/static/", "/_app/immutable/", "/assets/", "/manifest.json", "/@fs/", "/healthy/"]
        {
            assert_eq!(problems(&[origin(prefix, "https://app.example:8443/base")]), [""; 0], "{prefix}");
        }
        for prefix in [
            "",
            "static/",
            "/a//b/",
            "/../",
            "/a/./",
            "/a b/",
            "/{x}/",
            "/:x/",
            "/*",
            "/a%2f/",
            "/files/",
            "/files/me/",
            "/health",
            "/grpc.health.v1.Health/",
            "/weft.assets.v1.AssetService/",
        ] {
            let found = problems(&[origin(prefix, "http://app")]);
            assert!(
                found.len() == 1 && found[0].starts_with("origins[0].path_prefix: "),
                "{prefix}: {found:?}"
            );
        }
        for url in [
            "",
            "app:80",
            "ftp://app",
            "http://",
            "http://user:hunter2@app",
            "http://app/?x",
            "http://app/#x",
            "unix:/run/x",
        ] {
            let found = problems(&[origin("/static/", url)]);
            assert!(found.len() == 1 && found[0].starts_with("origins[0].url: "), "{url}: {found:?}");
            assert!(!found[0].contains("hunter2"));
        }
    }

    #[test]
    fn a_file_lists_origins_and_an_unknown_key_of_one_is_refused() {
        let load = |text: &str| {
            let sources = weft_runtime::config::Sources::from_text(text).unwrap();
            sources.load::<crate::Config>("assets", Default::default()).map_err(|error| error.problems)
        };
        let text = "[[origins]]\npath_prefix = \"/static/\"\nurl = \"http://app\"\nstale_if_error = \"1h\"\n\
                    [[origins]]\npath_prefix = \"/_app/immutable/\"\nurl = \"http://app\"\nimmutable = \"always\"";
        let origins = load(text).unwrap().origins;
        assert_eq!(origins[0].stale_if_error, Duration::from_secs(3600));
        assert_eq!((origins[0].immutable, origins[1].immutable), (Immutable::Hashed, Immutable::Always));
        let problems = load(&format!("{text}\nttl = \"1h\"\n[origin_cache]\nmax_bytes = 1")).unwrap_err();
        assert_eq!(problems, ["origin_cache.max_bytes: unknown key", "origins.1.ttl: unknown key"]);
        assert!(load(&format!("{text}\ntimeout = \"soon\"")).unwrap_err()[0].contains("timeout"));
    }

    #[test]
    fn a_host_has_no_port() {
        for (host, fine) in [
            ("", true),
            ("chat.example", true),
            ("[::1]", true),
            ("chat.example:80", false),
            ("[::1", false),
            ("a b", false),
            ("http://chat", false),
        ] {
            let found = problems(&[OriginConfig { host: host.into(), ..origin("/static/", "http://app") }]);
            assert_eq!(found.is_empty(), fine, "{host}: {found:?}");
        }
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let bad = OriginConfig {
            host: "a b".into(),
            timeout: Duration::ZERO,
            max_bytes: 0,
            ..OriginConfig::default()
        };
        let fine = origin("/static/", "http://app");
        let found = problems(&[bad, fine.clone(), fine]);
        for key in ["[0].path_prefix", "[0].host", "[0].url", "[0].max_bytes", "[0].timeout", "[2]: has the"]
        {
            assert_eq!(found.iter().filter(|problem| problem.contains(key)).count(), 1, "{key} in {found:?}");
        }
        assert_eq!(found.len(), 6, "{found:?}");
    }
}
