//! The text files of a repository, real or made up.
use std::{collections::BTreeMap, fs, path::Path};

const SKIPPED_FOLDERS: [&str; 5] = ["target", "node_modules", ".git", ".weft", "__pycache__"];
const EXTENSIONS: [&str; 7] = ["rs", "toml", "md", "proto", "sql", "sh", "yaml"];

/// Every text file by its path from the root, in the order of the paths.
pub(crate) struct Repository(BTreeMap<String, String>);

/// A crate of the workspace.
pub(crate) struct Package<'a> {
    /// `weft-cache`, from its manifest.
    pub(crate) name: String,
    /// `services/cache`.
    pub(crate) folder: &'a str,
    pub(crate) manifest: toml::Table,
}

impl Repository {
    /// The repository that this test belongs to.
    pub(crate) fn here() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut files = BTreeMap::new();
        read_folder(root, root, &mut files);
        assert!(files.len() > 20, "only {} files found below {}", files.len(), root.display());
        Self(files)
    }

    /// A made-up one.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// All Rust files below the folder; with an empty folder, all.
    pub(crate) fn rust<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let below = move |path: &str| {
            path.strip_prefix(folder).is_some_and(|rest| folder.is_empty() || rest.starts_with('/'))
        };
        self.files().filter(move |(path, _)| path.ends_with(".rs") && below(path))
    }

    pub(crate) fn packages(&self) -> Vec<Package<'_>> {
        let manifests =
            self.files().filter_map(|(path, text)| Some((path.strip_suffix("/Cargo.toml")?, text)));
        manifests.filter_map(|(folder, text)| Package::read(folder, text)).collect()
    }
}

impl<'a> Package<'a> {
    fn read(folder: &'a str, text: &str) -> Option<Self> {
        let manifest: toml::Table =
            text.parse().unwrap_or_else(|error| panic!("{folder}/Cargo.toml: {error}"));
        let name = manifest.get("package")?.get("name")?.as_str()?.to_owned();
        Some(Self { name, folder, manifest })
    }

    /// Names of what it links: `dependencies` and `build-dependencies`, those of single platforms included.
    pub(crate) fn links(&self) -> Vec<&str> {
        let platforms = self.manifest.get("target").and_then(toml::Value::as_table);
        let tables = platforms.into_iter().flat_map(|table| table.values().filter_map(toml::Value::as_table));
        let tables = tables.chain([&self.manifest]);
        tables
            .flat_map(|table| [names(table, "dependencies"), names(table, "build-dependencies")])
            .flatten()
            .collect()
    }

    /// Names of what its tests link besides.
    pub(crate) fn dev_links(&self) -> Vec<&str> {
        names(&self.manifest, "dev-dependencies")
    }
}

fn names<'t>(table: &'t toml::Table, section: &str) -> Vec<&'t str> {
    let section = table.get(section).and_then(toml::Value::as_table);
    section.into_iter().flat_map(|section| section.keys().map(String::as_str)).collect()
}

/// The lines of a Rust file that are code and not a test: numbered from 1, comments cut off, up to the test module.
pub(crate) fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let code = lines
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(all(test"));
    code.map(|(number, line)| (number, cut_comment(line))).filter(|(_, line)| !line.trim().is_empty())
}

/// Up to `//`, unless that stands in a URL.
fn cut_comment(line: &str) -> &str {
    let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
    comment.map_or(line, |(at, _)| &line[..at])
}

/// Whether the path names this crate: `redis::`, but neither `crate::redis::` nor `weft_redis::`.
pub(crate) fn names_crate(line: &str, krate: &str) -> bool {
    let joins = |before: char| before.is_alphanumeric() || matches!(before, '_' | ':' | '.');
    let path = format!("{krate}::");
    let mut uses = line.match_indices(&path).filter(|(at, _)| !line[..*at].ends_with(joins));
    uses.next().is_some() || line.trim_start().starts_with(&format!("use {krate};"))
}

fn read_folder(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !path.is_symlink() && !SKIPPED_FOLDERS.contains(&name) {
            read_folder(root, &path, files);
        } else if path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
            && let Ok(text) = fs::read_to_string(&path)
        {
            files.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), text);
        }
    }
}

#[test]
fn code_is_without_comments_and_tests() {
    let text = "//! redis::Doc\nlet url = \"http://x\"; // redis::Comment\n\n#[cfg(test)]\nmod tests { redis::Test }\n";
    assert_eq!(code(text).collect::<Vec<_>>(), [(2, "let url = \"http://x\"; ")]);
}

#[test]
fn a_crate_is_told_from_a_module_of_its_name() {
    assert!(names_crate("use redis::Client;", "redis"));
    assert!(names_crate("    let x: Vec<redis::Value> = a;", "redis"));
    assert!(!names_crate("use crate::redis::Client;", "redis"));
    assert!(!names_crate("self.redis.ping()", "redis"));
}

#[test]
fn a_package_links_what_its_manifest_lists() {
    let manifest = "[package]\nname = \"weft-x\"\n[dependencies]\na = \"1\"\n[build-dependencies]\nb.workspace = true\n\
                    [target.'cfg(unix)'.dependencies]\nc = \"1\"\n[dev-dependencies]\nd = \"1\"\n";
    let repository = Repository::of(&[("shared/x/Cargo.toml", manifest), ("Cargo.toml", "[workspace]\n")]);
    let packages = repository.packages();
    let [package] = packages.as_slice() else { panic!("{} packages", packages.len()) };
    assert_eq!((package.name.as_str(), package.folder), ("weft-x", "shared/x"));
    let mut links = package.links();
    links.sort_unstable();
    assert_eq!((links, package.dev_links()), (vec!["a", "b", "c"], vec!["d"]));
}
