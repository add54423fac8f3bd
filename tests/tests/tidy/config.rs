//! The configuration tables of the services' READMEs, held against the defaults in the code.
//!
//! A table begins with the header `| key | default |`. A row may name several keys, a later one by its last part
//! (`s3.key`, `.secret`), and then has a default for each or one for all: in backticks, or as a person writes it
//! (64 MiB, 50,000,000, empty, none, –). Keys of lists (`pools[].name`) and groups (`lifecycle.*`) are described in
//! words and not compared.
use std::collections::BTreeMap;

use weft_runtime::Service;

use crate::{Repository, assert_clean, assert_finds};

/// The same in every service and described once, in the runtime.
const COMMON: [&str; 3] = ["admin.", "lifecycle.", "telemetry."];

/// Dotted keys and their defaults; a key without one has an empty text.
type Defaults = BTreeMap<String, String>;

fn defaults<S: Service>() -> Defaults {
    let mut found = Defaults::new();
    flatten("", &toml::Value::try_from(S::Config::default()).unwrap(), &mut found);
    found
}

fn flatten(prefix: &str, value: &toml::Value, into: &mut Defaults) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&key, value, into);
            }
        }
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {}
        toml::Value::String(text) => drop(into.insert(prefix.to_owned(), text.clone())),
        other => drop(into.insert(prefix.to_owned(), other.to_string())),
    }
}

/// Keys and defaults as the README has them.
fn documented(readme: &str) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut in_table = false;
    for line in readme.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let header = line.starts_with('|') && cells.first() == Some(&"key");
        in_table = header || (in_table && line.starts_with('|'));
        if let (true, false, [keys, default, ..]) = (in_table, header, cells.as_slice()) {
            let keys = keys_of(keys);
            // A list holds commas of its own.
            let one = keys.len() == 1 || !default.contains(", ");
            let values: Vec<String> =
                if one { vec![plain(default)] } else { default.split(", ").map(plain).collect() };
            rows.extend(keys.iter().enumerate().map(|(index, key)| {
                let value = if one { values.first() } else { values.get(index) };
                (key.clone(), value.cloned().unwrap_or_default())
            }));
        }
    }
    rows
}

/// What stands in backticks, but for the names of environment variables.
fn keys_of(cell: &str) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for text in cell.split('`').skip(1).step_by(2).filter(|text| !text.starts_with(char::is_uppercase)) {
        let parent = keys.last().and_then(|key| key.rsplit_once('.')).map_or("", |(parent, _)| parent);
        keys.push(if text.starts_with('.') { format!("{parent}{text}") } else { text.to_owned() });
    }
    keys
}

/// A default as the code has it: `64 MiB` becomes `67108864`, `none` nothing.
fn plain(text: &str) -> String {
    if let Some(quoted) = text.split('`').nth(1) {
        return quoted.to_owned();
    }
    let text = text.split([':', '(']).next().unwrap_or_default().trim();
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let factor: u64 = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => 1,
    };
    match number.replace(',', "").parse::<u64>() {
        Ok(number) => (number * factor).to_string(),
        Err(_) if matches!(text, "empty" | "none" | "–" | "-") => String::new(),
        Err(_) => text.to_owned(),
    }
}

/// Equal as texts, or as numbers.
fn same(default: &str, documented: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    default == documented || number(default).is_some_and(|value| number(documented) == Some(value))
}

fn differences(service: &str, defaults: &Defaults, readme: &str) -> Vec<String> {
    let rows = documented(readme);
    let compared = |key: &str| {
        !key.contains("[]") && !key.ends_with('*') && !COMMON.iter().any(|common| key.starts_with(common))
    };
    let mut findings = Vec::new();
    for (key, documented) in rows.iter().filter(|(key, _)| compared(key)) {
        match defaults.get(key) {
            Some(default) if !same(default, documented) => {
                findings.push(format!(
                    "{service}: `{key}` is `{default}` by default, its README says `{documented}`"
                ));
            }
            None if !documented.is_empty() => {
                findings.push(format!(
                    "{service}: its README has a default for `{key}`, which is unknown or not set"
                ));
            }
            _ => {}
        }
    }
    let is_documented = |key: &str| match key.rsplit_once('.') {
        // How another service is reached is the same everywhere and described in the mesh: one row of it is enough.
        Some((peer, _)) if defaults.contains_key(&format!("{peer}.addresses")) => {
            rows.iter().any(|(row, _)| row == peer || row.starts_with(&format!("{peer}.")))
        }
        _ => rows.iter().any(|(row, _)| row == key || row.starts_with(&format!("{key}[]"))),
    };
    let silent = defaults.keys().filter(|key| compared(key) && !is_documented(key));
    findings.extend(silent.map(|key| format!("{service}: its README has no row for `{key}`")));
    findings
}

fn of_service<S: Service>(folder: &str) -> Vec<String> {
    let repository = Repository::here();
    let readme = repository.text(&format!("services/{folder}/README.md")).unwrap_or_default();
    differences(folder, &defaults::<S>(), readme)
}

#[test]
fn readmes_have_the_defaults_of_the_code() {
    let findings = [
        of_service::<weft_assets::Assets>("assets"),
        of_service::<weft_cache::Cache>("cache"),
        of_service::<weft_database::Database>("database"),
        of_service::<weft_gateway::Gateway>("gateway"),
        of_service::<weft_queue::Queue>("queue"),
    ];
    assert_clean(&findings.concat());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(defaults: &[(&str, &str)], readme: &str) -> Vec<String> {
        let defaults = defaults.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        differences("cache", &defaults, readme)
    }

    #[test]
    fn a_table_that_agrees_is_fine() {
        let readme = "| key | default | why |\n|---|---|---|\n| `ttl` | `1h` | |\n| `up`, `down` | `2`, `3` | |\n\
                      | `redis.url` (`REDIS_URL`) | – | |\n| `s3.key`, `.secret` | empty | |\n\
                      | `pools[].name` | `x` | |\n| `bytes`, `pixels` | 64 MiB, 50,000,000 | |\n\
                      | `factor` | 2 | |\n| `roles` | `[\"api\", \"worker\"]` | |\n| `peer.addresses` | `[]` | |\n| `workers` | 0: one per core | |\n\n| `other` | `table` |\n";
        let defaults = [
            ("ttl", "1h"),
            ("up", "2"),
            ("down", "3"),
            ("lifecycle.drain_delay", "0s"),
            ("s3.key", ""),
            ("s3.secret", ""),
            ("bytes", "67108864"),
            ("pixels", "50000000"),
            ("factor", "2.0"),
            ("roles", r#"["api", "worker"]"#),
            ("peer.addresses", "[]"),
            ("peer.refresh", "5s"),
            ("workers", "0"),
        ];
        assert_clean(&check(&defaults, readme));
    }

    #[test]
    fn another_default_a_missing_and_an_unknown_key_are_found() {
        let table = "| key | default |\n|---|---|\n";
        assert_finds(
            &check(&[("ttl", "1h")], &format!("{table}| `ttl` | `2h` |\n")),
            &["`ttl` is `1h`", "`2h`"],
        );
        assert_finds(&check(&[("ttl", "1h")], table), &["no row for `ttl`"]);
        assert_finds(&check(&[], &format!("{table}| `tll` | `1h` |\n")), &["`tll`", "unknown"]);
    }
}
