//! Values that must never be seen in logs, errors or a printed configuration.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A secret, or a URL that may hold one. Prints as `***`, a URL without its credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Do not print it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn redacted(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            return if self.0.is_empty() || self.0.starts_with("sqlite:") {
                self.0.clone()
            } else {
                "***".to_owned()
            };
        };
        let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        let hidden = if host.len() == rest.len() { "" } else { "***@" };
        format!("{scheme}://{hidden}{host}")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.redacted())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_printed() {
        for (secret, shown) in [
            ("hunter2", "***"),
            ("", ""),
            ("sqlite:.weft/database/weft.db", "sqlite:.weft/database/weft.db"),
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("postgres://weft:p@ss@db:5432/weft?password=x", "postgres://***@db:5432/weft"),
        ] {
            let value = Secret::from(secret);
            assert_eq!(format!("{value}"), shown);
            assert_eq!(format!("{value:?}"), shown);
            assert_eq!(serde_json::to_value(&value).unwrap(), shown);
        }
    }
}
