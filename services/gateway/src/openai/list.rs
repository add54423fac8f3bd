//! Lists of models: as a server has them, and all of them together.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{json, value::RawValue};

/// What a server lists.
#[derive(Debug)]
pub(super) struct Listed {
    /// Each entry as the server has it, in its order.
    entries: Vec<Box<RawValue>>,
    /// Where each name is.
    places: HashMap<String, usize>,
    at: Instant,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

impl Listed {
    /// Reads the answer of a server. Entries without a name are left out.
    pub(super) fn parse(answer: &[u8], at: Instant) -> Result<Self, serde_json::Error> {
        let page: Page<'_> = serde_json::from_slice(answer)?;
        let mut listed = Self { entries: Vec::new(), places: HashMap::new(), at };
        // Some servers without models have `null`.
        for raw in page.data.unwrap_or_default() {
            let Ok(entry) = serde_json::from_str::<Entry<'_>>(raw.get()) else { continue };
            if let std::collections::hash_map::Entry::Vacant(place) =
                listed.places.entry(entry.id.into_owned())
            {
                place.insert(listed.entries.len());
                listed.entries.push(raw.to_owned());
            }
        }
        Ok(listed)
    }

    /// How old it is.
    pub(super) fn age(&self) -> Duration {
        self.at.elapsed()
    }

    /// The entry of a model.
    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        self.entries.get(*self.places.get(name)?).map(|entry| &**entry)
    }

    /// All of them, with their names.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        let mut names: Vec<_> = self.places.iter().map(|(name, place)| (*place, name.as_str())).collect();
        names.sort_unstable();
        names.into_iter().filter_map(|(place, name)| Some((name, &**self.entries.get(place)?)))
    }
}

/// The entry of a model of which nothing is known but that somebody serves it.
pub(super) fn entry(name: &str, owner: &str) -> String {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": owner }).to_string()
}

/// Entries of several servers as one list: of a model that several have, the first counts.
#[derive(Debug, Default)]
pub(super) struct Merging {
    names: HashSet<String>,
    text: String,
}

impl Merging {
    pub(super) fn add(&mut self, name: &str, entry: &str) {
        if self.names.insert(name.to_owned()) {
            self.text.push_str(if self.text.is_empty() { "" } else { "," });
            self.text.push_str(entry);
        }
    }

    pub(super) fn finish(self) -> String {
        format!("{{\"object\":\"list\",\"data\":[{}]}}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(answer: &str) -> Option<Vec<String>> {
        let listed = Listed::parse(answer.as_bytes(), Instant::now()).ok()?;
        Some(listed.entries().map(|(name, _)| name.to_owned()).collect())
    }

    #[test]
    fn entries_are_kept_as_they_are_and_what_has_no_name_is_left_out() {
        let answer = r#"{"object":"list","data":[{"id":"b","max_model_len": 4e3},{"object":"model"},7,
                        {"id":"a\u002fx"},{"id":"b","again":true}],"more":1}"#;
        let listed = Listed::parse(answer.as_bytes(), Instant::now()).unwrap();
        assert_eq!(listed.get("b").unwrap().get(), r#"{"id":"b","max_model_len": 4e3}"#);
        assert_eq!(listed.get("a/x").unwrap().get(), r#"{"id":"a\u002fx"}"#);
        assert_eq!(names(answer).unwrap(), ["b", "a/x"]);
        assert_eq!(names(r#"{"object":"list","data":null}"#).unwrap(), [""; 0]);
        for broken in ["", "[]", r#"{"data":{}}"#, r#"{"data":[{"id":"a"}"#] {
            assert_eq!(names(broken), None, "{broken}");
        }
    }

    #[test]
    fn the_first_of_several_with_one_name_counts() {
        let mut merging = Merging::default();
        assert_eq!(Merging::default().finish(), r#"{"object":"list","data":[]}"#);
        for (name, entry) in [("a", "1"), ("b", "2"), ("a", "3")] {
            merging.add(name, entry);
        }
        assert_eq!(merging.finish(), r#"{"object":"list","data":[1,2]}"#);
    }
}
