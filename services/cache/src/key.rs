//! Typed keys: `<pattern>` or `<pattern>:<id>`, and nothing else.

use std::{fmt, sync::Arc};

/// The longest id, in bytes.
pub const MAX_ID_BYTES: usize = 256;

/// What a key stands for. The order is that of the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// `chat:{id}`
    Chat,
    /// `chat_list:{user_id}`
    ChatList,
    /// `document:{id}`
    Document,
    /// `document_list` and `document_list:{user_id}`
    DocumentList,
    /// `model:{id}`
    Model,
    /// `model_list`
    ModelList,
    /// `user:{id}`
    User,
    /// `user_list`
    UserList,
}

/// Whether a pattern's keys carry an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Id {
    Required,
    Optional,
    Absent,
}

/// A key that is known to be well formed. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    text: Arc<str>,
    pattern: Pattern,
}

/// Why a text is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing before the colon is a known pattern.
    #[error(
        "has no known pattern, it is {0:?}; the patterns are user:{{id}}, user_list, chat:{{id}}, chat_list:{{user_id}}, \
         model:{{id}}, model_list, document:{{id}}, document_list and document_list:{{user_id}}"
    )]
    UnknownPattern(String),
    /// The pattern stands alone, and may not.
    #[error("needs an id: `{0}:{{id}}`")]
    IdMissing(Pattern),
    /// The pattern must stand alone.
    #[error("takes no id: `{0}`")]
    IdUnexpected(Pattern),
    /// The id itself is wrong.
    #[error("has an id that {0}")]
    Id(#[from] IdError),
}

/// Why a text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing there.
    #[error("is empty; 1 to {MAX_ID_BYTES} bytes are allowed")]
    Empty,
    /// Too much.
    #[error("has {0} bytes; 1 to {MAX_ID_BYTES} are allowed")]
    TooLong(usize),
    /// Something that is not printable, not ASCII, or a space.
    #[error("is not printable ASCII without spaces, from its byte {0} on")]
    Unprintable(usize),
}

impl Pattern {
    /// Every pattern, by name.
    pub const ALL: [Self; 8] = [
        Self::Chat,
        Self::ChatList,
        Self::Document,
        Self::DocumentList,
        Self::Model,
        Self::ModelList,
        Self::User,
        Self::UserList,
    ];

    /// As it is written in a key.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::ChatList => "chat_list",
            Self::Document => "document",
            Self::DocumentList => "document_list",
            Self::Model => "model",
            Self::ModelList => "model_list",
            Self::User => "user",
            Self::UserList => "user_list",
        }
    }

    const fn id(self) -> Id {
        match self {
            Self::Chat | Self::ChatList | Self::Document | Self::Model | Self::User => Id::Required,
            Self::DocumentList => Id::Optional,
            Self::ModelList | Self::UserList => Id::Absent,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Key {
    /// Reads a key.
    ///
    /// # Errors
    /// When the text is no key; the error says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, id) = match text.split_once(':') {
            Some((name, id)) => (name, Some(id)),
            None => (text, None),
        };
        let pattern = Pattern::ALL.into_iter().find(|pattern| pattern.name() == name);
        let pattern = pattern.ok_or_else(|| KeyError::UnknownPattern(name.chars().take(64).collect()))?;
        match (pattern.id(), id) {
            (Id::Required, None) => return Err(KeyError::IdMissing(pattern)),
            (Id::Absent, Some(_)) => return Err(KeyError::IdUnexpected(pattern)),
            (Id::Required | Id::Optional, Some(id)) => check_id(id)?,
            (Id::Optional | Id::Absent, None) => {}
        }
        Ok(Self { text: text.into(), pattern })
    }

    /// Builds the key of a pattern that carries an id.
    pub(crate) fn with_id(pattern: Pattern, id: &str) -> Result<Self, IdError> {
        debug_assert_ne!(pattern.id(), Id::Absent, "{pattern} carries no id");
        check_id(id)?;
        Ok(Self { text: format!("{pattern}:{id}").into(), pattern })
    }

    /// Builds the key of a pattern that may stand alone.
    pub(crate) fn alone(pattern: Pattern) -> Self {
        debug_assert_ne!(pattern.id(), Id::Required, "{pattern} needs an id");
        Self { text: pattern.name().into(), pattern }
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it stands for.
    #[must_use]
    pub const fn pattern(&self) -> Pattern {
        self.pattern
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a text may be an id: 1 to 256 bytes of printable ASCII without spaces.
///
/// # Errors
/// When it may not.
pub fn check_id(id: &str) -> Result<(), IdError> {
    if id.is_empty() {
        return Err(IdError::Empty);
    }
    if id.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong(id.len()));
    }
    id.bytes().position(|byte| !byte.is_ascii_graphic()).map_or(Ok(()), |at| Err(IdError::Unprintable(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_of_the_contract_is_a_key() {
        for text in [
            "user:1",
            "user_list",
            "chat:0192",
            "chat_list:ada",
            "model:gpt-4o",
            "model_list",
            "document:a/b.md",
            "document_list",
            "document_list:ada",
            "model:ollama:llama3:8b",
        ] {
            assert_eq!(Key::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn every_other_text_is_refused_for_its_own_reason() {
        let unknown = |name: &str| KeyError::UnknownPattern(name.to_owned());
        for (text, expected) in [
            ("", unknown("")),
            ("users:1", unknown("users")),
            ("User:1", unknown("User")),
            (" user:1", unknown(" user")),
            (":1", unknown("")),
            ("user", KeyError::IdMissing(Pattern::User)),
            ("chat_list", KeyError::IdMissing(Pattern::ChatList)),
            ("user_list:1", KeyError::IdUnexpected(Pattern::UserList)),
            ("model_list:", KeyError::IdUnexpected(Pattern::ModelList)),
            ("user:", IdError::Empty.into()),
            ("document_list:", IdError::Empty.into()),
            ("user:a b", IdError::Unprintable(1).into()),
            ("user:\n", IdError::Unprintable(0).into()),
            ("user:ab\u{0}", IdError::Unprintable(2).into()),
            ("user:zoë", IdError::Unprintable(2).into()),
        ] {
            assert_eq!(Key::parse(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn the_longest_id_is_256_bytes() {
        assert!(Key::with_id(Pattern::Chat, &"x".repeat(256)).is_ok());
        assert_eq!(Key::with_id(Pattern::Chat, &"x".repeat(257)), Err(IdError::TooLong(257)));
    }

    #[test]
    fn an_unknown_pattern_is_quoted_in_part_and_escaped() {
        let error = Key::parse(&format!("\u{7}{}:1", "x".repeat(10_000))).unwrap_err().to_string();
        assert!(error.contains("\\u{7}xxx"), "{error}");
        assert!(error.len() < 400);
    }

    #[test]
    fn the_patterns_are_sorted_by_name() {
        assert!(Pattern::ALL.is_sorted_by_key(|pattern| pattern.name()));
    }
}
