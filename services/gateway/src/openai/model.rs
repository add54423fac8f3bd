//! The model that a call names, found in its body without keeping anything else of it.
//!
//! The server that the call goes to reads the body again, so what two readers could understand differently is refused:
//! a name that stands there twice, and whatever is no JSON. Nothing recurses: how deep a body is nested costs nothing.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// The most of what a reader says that is told.
const MAX_PROBLEM: usize = 200;

/// What is wrong with a body.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// It cannot be read.
    #[error("the request's body is not a JSON object: {0}")]
    Unreadable(String),
    /// It names no model.
    #[error("you must provide a model parameter")]
    Missing,
    /// It names two, or one twice.
    #[error("the parameter `model` is given more than once")]
    Twice,
    /// The model's name is no text, or an empty one.
    #[error("the parameter `model` must be a string that is not empty")]
    NotText,
}

impl Problem {
    /// Whether it is about the model's name.
    pub(crate) const fn is_of_model(&self) -> bool {
        !matches!(self, Self::Unreadable(_))
    }
}

/// The value of `model` at the top of a JSON object.
///
/// # Errors
/// It is not there exactly once, or no text; or the body is not one JSON object.
pub(crate) fn find(body: &[u8]) -> Result<String, Problem> {
    // Before a reader tells what else it is, with all of it in its message.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::Unreadable("expected an object".to_owned()));
    }
    let mut found = Found::default();
    let mut reader = serde_json::Deserializer::from_slice(body);
    (&mut found)
        .deserialize(&mut reader)
        .and_then(|()| reader.end())
        .map_err(|error| Problem::Unreadable(error.to_string().chars().take(MAX_PROBLEM).collect()))?;
    match found {
        Found { twice: true, .. } => Err(Problem::Twice),
        Found { name: Some(Name(Some(name))), .. } => Ok(name),
        Found { name: Some(Name(None)), .. } => Err(Problem::NotText),
        Found { name: None, .. } => Err(Problem::Missing),
    }
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    name: Option<Name>,
    twice: bool,
}

impl<'de> DeserializeSeed<'de> for &mut Found {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Found {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(is_model)) = map.next_key()? {
            if !is_model {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            self.twice |= self.name.is_some();
            self.name = Some(map.next_value()?);
        }
        Ok(())
    }
}

/// Whether a key is `model`, however it is written.
struct Key(bool);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
                Ok(Key(key == "model"))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

/// A name; `None` for what is none.
#[derive(Debug)]
struct Name(Option<String>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Read as it is written first, so that a value of any kind is passed over and not an error of its own.
        let raw = <&serde_json::value::RawValue>::deserialize(deserializer)?.get();
        if !raw.starts_with('"') {
            return Ok(Self(None));
        }
        let name: String = serde_json::from_str(raw).map_err(D::Error::custom)?;
        Ok(Self(Some(name).filter(|name| !name.is_empty())))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn found(body: &str) -> Result<String, Problem> {
        find(body.as_bytes())
    }

    #[test]
    fn a_name_is_found_wherever_it_stands_and_however_it_is_written() {
        for body in [
            r#"{"model":"m"}"#,
            r#"{"messages":[{"model":"x","content":"\"model\":\"y\""}],"model":"m","stream":true}"#,
            " {\"a\" : {\"model\":\"x\"} ,\n\"mod\\u0065l\" : \"\\u006d\" } \r\n",
            r#"{"model ":"x","Model":"y","\u006dodel":"m"}"#,
        ] {
            assert_eq!(found(body).as_deref(), Ok("m"), "{body}");
        }
        assert_eq!(found(r#"{"model":"a\"b\ud83d\ude00"}"#).as_deref(), Ok("a\"b😀"));
    }

    #[test]
    fn what_two_readers_may_understand_differently_is_refused() {
        for (body, problem) in [
            (r#"{"model":"a","model":"b"}"#, Problem::Twice),
            (r#"{"model":"a","x":1,"mod\u0065l":"a"}"#, Problem::Twice),
            (r#"{"model":1,"model":"a"}"#, Problem::Twice),
            (r#"{"messages":[]}"#, Problem::Missing),
            ("{}", Problem::Missing),
            (r#"{"model":null}"#, Problem::NotText),
            (r#"{"model":["m"]}"#, Problem::NotText),
            (r#"{"model":{"model":"m"}}"#, Problem::NotText),
            (r#"{"model":""}"#, Problem::NotText),
        ] {
            assert_eq!(found(body), Err(problem), "{body}");
        }
        for body in [
            "",
            "null",
            r#"["model"]"#,
            r#""model""#,
            r#"{"model":"m""#,
            r#"{"model":"m"} x"#,
            r#"{"model":"m"}{"model":"n"}"#,
            r#"{"model":"m",}"#,
            r#"{'model':'m'}"#,
            r#"{"model":"\ud800"}"#,
            "{\"model\":\"a\nb\"}",
            "\u{feff}{\"model\":\"m\"}",
        ] {
            assert!(matches!(found(body), Err(Problem::Unreadable(_))), "{body}: {:?}", found(body));
        }
        assert!(matches!(find(b"{\"model\":\"\xff\"}"), Err(Problem::Unreadable(_))));
    }

    #[test]
    fn how_deep_and_how_large_it_is_does_not_matter() {
        let deep = format!(
            r#"{{"a":{}{},"model":"m","b":{}1{}}}"#,
            "[".repeat(200_000),
            "]".repeat(200_000),
            "{\"a\":".repeat(200_000),
            "}".repeat(200_000)
        );
        assert_eq!(found(&deep).as_deref(), Ok("m"));
        let open = format!(r#"{{"model":"m","a":{}"#, "[".repeat(1_000_000));
        assert!(matches!(found(&open), Err(Problem::Unreadable(_))));
        let deep = format!(r#"{{"model":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(found(&deep), Err(Problem::NotText));
        let large = format!(r#"{{"image":"{}","model":"m"}}"#, "A".repeat(8 * 1024 * 1024));
        assert_eq!(found(&large).as_deref(), Ok("m"));
    }

    /// Any JSON.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let key = prop_oneof![Just("model".to_owned()), any::<String>()];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// A text with any of its characters escaped.
    fn escaped(text: &str, which: &[bool]) -> String {
        let characters = text.chars().zip(which.iter().cycle());
        let written = characters.map(|(c, escape)| match c {
            c if *escape => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect(),
            c => serde_json::to_string(&c.to_string()).unwrap().trim_matches('"').to_owned(),
        });
        written.collect()
    }

    proptest! {
        /// It says what a reader that keeps everything says.
        #[test]
        fn it_agrees_with_a_whole_reading(top in value(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&top) } else { serde_json::to_string(&top) };
            let expected = match &top {
                Value::Object(map) => match map.get("model") {
                    Some(Value::String(name)) if !name.is_empty() => Ok(name.clone()),
                    Some(_) => Err(Problem::NotText),
                    None => Err(Problem::Missing),
                },
                _ => Err(Problem::Unreadable(String::new())),
            };
            match (found(&text.unwrap()), expected) {
                (Err(Problem::Unreadable(_)), Err(Problem::Unreadable(_))) => {}
                (found, expected) => prop_assert_eq!(found, expected),
            }
        }

        #[test]
        fn escapes_do_not_hide_it(
            which in prop::collection::vec(any::<bool>(), 1..8),
            name in "[a-z0-9:/ äß😀.-]{1,20}",
            before in value(),
        ) {
            let (key, written) = (escaped("model", &which), escaped(&name, &which));
            let body = format!("{{\"a\":{before},\"{key}\":\"{written}\",\"b\":{before}}}");
            prop_assert_eq!(found(&body), Ok(name.clone()));
            let body = format!("{{\"model\":\"{written}\",\"a\":{before},\"{key}\":\"{written}\"}}");
            prop_assert_eq!(found(&body), Err(Problem::Twice));
        }

        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0_usize..40) {
            let _ = find(&bytes);
            let body = json!({ "messages": [{ "role": "user" }], "model": "m" }).to_string();
            let cut = cut.min(body.len() - 1);
            prop_assert!(matches!(find(&body.as_bytes()[..cut]), Err(Problem::Unreadable(_))));
            let mut broken = body.into_bytes();
            broken.splice(cut..cut, bytes);
            let expected = serde_json::from_slice::<Map<String, Value>>(&broken);
            if let Ok(name) = find(&broken) && let Ok(map) = expected {
                prop_assert_eq!(map.get("model"), Some(&Value::from(name)));
            }
        }
    }

    #[test]
    fn what_is_no_object_is_not_told_again() {
        let huge = format!("\"{}\"", "\u{7f}".repeat(100_000));
        for body in [huge.as_bytes(), b"[1]", b"7", b"", b"  \n", b"null"] {
            let problem = find(body).unwrap_err();
            assert_eq!(problem, Problem::Unreadable("expected an object".to_owned()));
        }
        let inside = format!("{{\"model\": {}", "\u{7f}".repeat(100_000));
        assert!(find(inside.as_bytes()).unwrap_err().to_string().len() < 1000);
        assert_eq!(find(b" \n{\"model\": \"m\"}").unwrap(), "m");
    }
}
