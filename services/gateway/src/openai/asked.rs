//! What a request asks the API for, by its method and path.

use http::Method;

/// What a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A call that names a model.
    Call(Operation),
    /// All models.
    List,
    /// One of them, as the path has it.
    Model(String),
    /// Nothing that is known here.
    Other,
}

/// A call that names a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// `chat/completions`
    Chat,
    /// `completions`
    Completion,
    /// `embeddings`
    Embeddings,
    /// `responses`
    Response,
    /// `rerank`, which servers have beyond the API.
    Rerank,
}

impl Operation {
    /// As OpenTelemetry's conventions for generative AI call it, and further ones in their manner.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completion => "text_completion",
            Self::Embeddings => "embeddings",
            Self::Response => "response",
            Self::Rerank => "rerank",
        }
    }
}

impl Asked {
    /// Of a method and what follows the prefix in the path.
    pub(crate) fn of(method: &Method, rest: &str) -> Self {
        if method == Method::POST {
            let operation = match rest {
                "chat/completions" => Operation::Chat,
                "completions" => Operation::Completion,
                "embeddings" => Operation::Embeddings,
                "responses" => Operation::Response,
                "rerank" => Operation::Rerank,
                _ => return Self::Other,
            };
            return Self::Call(operation);
        }
        if method != Method::GET && method != Method::HEAD {
            return Self::Other;
        }
        match rest.strip_prefix("models") {
            Some("" | "/") => Self::List,
            Some(rest) => rest.strip_prefix('/').map_or(Self::Other, |id| Self::Model(decoded(id))),
            None => Self::Other,
        }
    }
}

/// A part of a path without its percent signs: names of models have slashes and colons.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.as_bytes().first() {
        let code = rest.strip_prefix('%').and_then(|hex| u8::from_str_radix(hex.get(..2)?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = match code {
            Some(_) => rest.get(3..).unwrap_or_default(),
            None => {
                let length = rest.chars().next().map_or(1, char::len_utf8);
                bytes.extend_from_slice(rest.as_bytes().get(1..length).unwrap_or_default());
                rest.get(length..).unwrap_or_default()
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_lists_are_told_from_everything_else() {
        let asked = |method: &str, rest| Asked::of(&method.parse().unwrap(), rest);
        assert_eq!(asked("POST", "chat/completions"), Asked::Call(Operation::Chat));
        assert_eq!(asked("POST", "completions"), Asked::Call(Operation::Completion));
        assert_eq!(asked("POST", "embeddings"), Asked::Call(Operation::Embeddings));
        assert_eq!(asked("GET", "models"), Asked::List);
        assert_eq!(asked("GET", "models/"), Asked::List);
        assert_eq!(asked("GET", "models/llama3.1:8b"), Asked::Model("llama3.1:8b".into()));
        assert_eq!(asked("GET", "models/meta/Llama%2d3%3A8b%"), Asked::Model("meta/Llama-3:8b%".into()));
        assert_eq!(asked("GET", "models/gr%C3%B6ße"), Asked::Model("größe".into()));
        for (method, rest) in [
            ("GET", "chat/completions"),
            ("POST", "chat/completions/x"),
            ("POST", "audio/transcriptions"),
            ("DELETE", "models/x"),
            ("GET", "modelsx"),
            ("POST", "models"),
            ("GET", ""),
        ] {
            assert_eq!(asked(method, rest), Asked::Other, "{method} {rest}");
        }
    }
}
