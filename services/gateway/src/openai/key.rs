//! The key that a pool's servers ask for.

use std::{
    fs,
    path::{Path, PathBuf},
};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderValue, header};

use crate::config::Models;

/// The header's value for a key; `None` for what no header can have.
pub(crate) fn bearer(key: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {key}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The header's value for the key in a file.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn read_key(file: &Path) -> Result<HeaderValue, String> {
    let name = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let text = text.trim();
    let value = bearer(text).filter(|_| !text.is_empty());
    value.ok_or_else(|| format!("{name} holds no text that a header can have"))
}

/// The key of one pool, which may change while the pool runs.
#[derive(Debug)]
pub(super) struct Key {
    /// Whether there is one at all: otherwise what a client sends is passed on.
    configured: bool,
    file: Option<PathBuf>,
    value: ArcSwapOption<HeaderValue>,
}

impl Key {
    /// Of a configuration, whose file is read here for the first time.
    pub(super) fn new(models: &Models) -> Self {
        let given = Some(models.api_key.expose()).filter(|key| !key.is_empty());
        let value = given.and_then(bearer).map(std::sync::Arc::new);
        let file = models.api_key_file.clone();
        let key =
            Self { configured: given.is_some() || file.is_some(), file, value: ArcSwapOption::from(value) };
        key.read();
        key
    }

    /// Whether it stands in a file.
    pub(super) const fn is_read(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the file again. One that cannot be used changes nothing.
    pub(super) fn read(&self) {
        let Some(file) = &self.file else { return };
        match read_key(file) {
            Ok(value) => self.value.store(Some(std::sync::Arc::new(value))),
            Err(problem) => tracing::warn!(problem, "the key of model servers stays what it was"),
        }
    }

    /// Puts it in the place of what a client has sent. What a client knows of other servers is not for these.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        if !self.configured {
            return;
        }
        match &*self.value.load() {
            Some(value) => drop(headers.insert(header::AUTHORIZATION, HeaderValue::clone(value))),
            None => drop(headers.remove(header::AUTHORIZATION)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(key: &Key) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer of-the-client"));
        key.put(&mut headers);
        headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_key_takes_the_place_of_the_clients_and_none_leaves_it() {
        assert_eq!(sent(&Key::new(&Models::default())).as_deref(), Some("Bearer of-the-client"));
        let key = Key::new(&Models { api_key: "own".into(), ..Models::default() });
        assert_eq!(sent(&key).as_deref(), Some("Bearer own"));
        assert!(!format!("{key:?}").contains("own"), "{key:?}");
    }

    #[test]
    fn a_file_is_read_again_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let models = Models { api_key_file: Some(file.clone()), ..Models::default() };
        assert_eq!(sent(&Key::new(&models)), None, "better none than the client's");
        fs::write(&file, "one\n").unwrap();
        let key = Key::new(&models);
        assert_eq!(sent(&key).as_deref(), Some("Bearer one"));
        for (text, expected) in [("two", "Bearer two"), (" \n", "Bearer two"), ("a\nb", "Bearer two")] {
            fs::write(&file, text).unwrap();
            key.read();
            assert_eq!(sent(&key).as_deref(), Some(expected), "{text:?}");
        }
    }
}
