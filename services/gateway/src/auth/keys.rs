//! API keys: long random texts, of which only hashes are kept.
//!
//! A key is `weft_<id>_<secret>`. The id finds it; the secret has 256 random bits, so that one round of SHA-256 keeps it
//! as well as a slow hash keeps a password, and costs a call half a microsecond.

use std::{
    collections::HashMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Identity, rules::Calls};

/// How keys begin.
pub(crate) const PREFIX: &str = "weft_";

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub(crate) struct KeysError {
    path: PathBuf,
    problem: String,
}

/// The keys of a file, as they are now.
pub(crate) struct Keys {
    path: PathBuf,
    current: ArcSwap<Loaded>,
}

#[derive(Default)]
struct Loaded {
    /// What the file held; `None` before it was read.
    text: Option<String>,
    keys: HashMap<String, Key>,
}

struct Key {
    sha256: [u8; 32],
    expires: Option<Timestamp>,
    identity: Arc<Identity>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    sha256: String,
    user: String,
    #[serde(default = "user")]
    roles: Vec<String>,
    scopes: Option<Vec<String>>,
    expires: Option<String>,
    /// When it was made, for people.
    #[serde(default, rename = "created")]
    _created: Option<String>,
}

fn user() -> Vec<String> {
    vec!["user".to_owned()]
}

impl Keys {
    /// Reads a file. One that cannot be used is an error; it has no keys then.
    pub(crate) fn open(path: &Path) -> (Self, Result<(), KeysError>) {
        let keys = Self { path: path.to_owned(), current: ArcSwap::default() };
        let read = keys.refresh().map(drop);
        (keys, read)
    }

    /// What is wrong with a file.
    pub(crate) fn check(path: &Path) -> Result<(), KeysError> {
        Self::open(path).1
    }

    /// Reads it again. Returns whether it holds something new; what cannot be used changes nothing.
    pub(crate) fn refresh(&self) -> Result<bool, KeysError> {
        let refuse = |problem: String| KeysError { path: self.path.clone(), problem };
        let text = match fs::read_to_string(&self.path) {
            // A file that was taken away takes its keys with it; one that cannot be read may be right.
            Err(error) if error.kind() == ErrorKind::NotFound && self.current.load().text.is_some() => {
                String::new()
            }
            read => read.map_err(|error| refuse(error.to_string()))?,
        };
        if self.current.load().text.as_ref() == Some(&text) {
            return Ok(false);
        }
        let keys = parse(&text).map_err(refuse)?;
        self.current.store(Arc::new(Loaded { text: Some(text), keys }));
        Ok(true)
    }

    /// Whose key a text is.
    pub(crate) fn find(&self, text: &str, now: Timestamp) -> Result<Arc<Identity>, &'static str> {
        let rest = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
        let (id, secret) = rest.ok_or("the API key is not one")?;
        let loaded = self.current.load();
        let key = loaded.keys.get(id).ok_or("the API key is unknown")?;
        let shown: [u8; 32] = Sha256::digest(secret).into();
        // All bytes are compared, whatever the first ones are.
        if shown.iter().zip(key.sha256).fold(0, |all, (a, b)| all | (a ^ b)) != 0 {
            return Err("the API key is unknown");
        }
        if key.expires.is_some_and(|expires| expires <= now) {
            return Err("the API key has expired");
        }
        Ok(Arc::clone(&key.identity))
    }
}

/// The keys of a file.
///
/// # Errors
/// With what is wrong with it.
pub(crate) fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

fn parse(text: &str) -> Result<HashMap<String, Key>, String> {
    // What the parser shows of the file could be a part of a key.
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mut keys = HashMap::new();
    for entry in file.keys {
        let id = entry.id.clone();
        let key = Key::new(entry).map_err(|problem| format!("key {id}: {problem}"))?;
        if keys.insert(id.clone(), key).is_some() {
            return Err(format!("key {id}: is there twice"));
        }
    }
    Ok(keys)
}

impl Key {
    fn new(entry: Entry) -> Result<Self, String> {
        let Entry { id, sha256, user, roles, scopes, expires, _created } = entry;
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err("its id must be letters and digits".to_owned());
        }
        let sha256 = hex(&sha256).ok_or("sha256 must be 64 hexadecimal digits")?;
        let expires = match expires {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| format!("\"{text}\" is not a time"))?),
        };
        let scope = |text: &String| Calls::parse(text).ok_or_else(|| format!("\"{text}\" names no calls"));
        let scopes = scopes.map(|scopes| scopes.iter().map(scope).collect::<Result<Vec<_>, _>>());
        let identity = Identity::new(user, roles, scopes.transpose()?)?;
        Ok(Self { sha256, expires, identity: Arc::new(identity) })
    }
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha256(text: &str) -> String {
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn opened(text: &str) -> (tempfile::TempDir, Keys, Result<(), KeysError>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        fs::write(&path, text).unwrap();
        let (keys, read) = Keys::open(&path);
        (folder, keys, read)
    }

    fn key(id: &str, secret: &str, more: &str) -> String {
        format!("[[keys]]\nid = \"{id}\"\nsha256 = \"{}\"\nuser = \"ada\"\n{more}\n", sha256(secret))
    }

    #[test]
    fn a_key_is_found_by_its_id_and_believed_for_its_secret() {
        let text = key("a1", "s_e-cret", "") + &key("b2", "old", "expires = \"2026-01-01T00:00:00Z\"");
        let (_folder, keys, read) = opened(&text);
        read.unwrap();
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let found = keys.find("weft_a1_s_e-cret", now).unwrap();
        assert_eq!((found.user.as_str(), found.roles.as_slice()), ("ada", &["user".to_owned()][..]));
        for (wrong, why) in [
            ("weft_a1_secret", "unknown"),
            ("weft_a1_", "unknown"),
            ("weft_c3_s_e-cret", "unknown"),
            ("weft_b2_old", "expired"),
            ("weft_a1", "not one"),
            ("a1_s_e-cret", "not one"),
        ] {
            assert!(keys.find(wrong, now).unwrap_err().contains(why), "{wrong}");
        }
        assert!(keys.find("weft_b2_old", "2025-06-01T00:00:00Z".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_file_is_read_again_and_a_broken_one_changes_nothing() {
        let (folder, keys, _) = opened(&key("a1", "s", ""));
        let path = folder.path().join("keys.toml");
        assert!(!keys.refresh().unwrap());
        fs::write(&path, "keys = 7").unwrap();
        assert!(keys.refresh().is_err());
        assert!(keys.find("weft_a1_s", Timestamp::UNIX_EPOCH).is_ok());
        fs::write(&path, key("b2", "s", "")).unwrap();
        assert!(keys.refresh().unwrap());
        assert!(keys.find("weft_a1_s", Timestamp::UNIX_EPOCH).is_err(), "revoked");
        fs::write(&path, "").unwrap();
        assert!(keys.refresh().unwrap());
        assert!(keys.find("weft_b2_s", Timestamp::UNIX_EPOCH).is_err(), "an empty file has no keys");
        fs::write(&path, key("b2", "s", "")).unwrap();
        assert!(keys.refresh().unwrap() && keys.find("weft_b2_s", Timestamp::UNIX_EPOCH).is_ok());
        fs::remove_file(&path).unwrap();
        assert!(keys.refresh().unwrap() && keys.find("weft_b2_s", Timestamp::UNIX_EPOCH).is_err());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_secrets() {
        for (text, why) in [
            (key("a1", "s", "") + &key("a1", "t", ""), "twice"),
            (key("a-1", "s", ""), "letters and digits"),
            ("[[keys]]\nid = \"a\"\nsha256 = \"beef\"\nuser = \"ada\"".to_owned(), "64 hexadecimal"),
            (key("a1", "s", "expires = \"soon\""), "not a time"),
            (key("a1", "s", "scopes = [\"weft.database\"]"), "names no calls"),
            (key("a1", "s", "roles = [\"Admin!\"]"), "role"),
            (key("a1", "s", "rolls = []"), "rolls"),
        ] {
            let problem = opened(&text).2.unwrap_err().to_string();
            assert!(problem.contains(why), "{why}: {problem}");
            assert!(!problem.contains(&sha256("s")), "{problem}");
        }
    }
}
