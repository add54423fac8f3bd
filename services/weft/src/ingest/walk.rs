//! Which files are documents, and what each is called.
//!
//! A document's path is the file's path relative to the current directory, written the same way however the folder was
//! named on the command line, so that a second run finds the documents of the first.

use std::{
    collections::BTreeMap,
    io,
    path::{Component, Path, PathBuf},
};

use walkdir::{DirEntry, WalkDir};

/// Text that people write, and source code: what is taken from a folder unless all is asked for.
const EXTENSIONS: [&str; 65] = [
    "md", "markdown", "mdx", "txt", "text", "rst", "adoc", "org", "tex", "html", "htm", "xhtml", "rs", "py",
    "js", "mjs", "cjs", "jsx", "ts", "tsx", "go", "java", "kt", "kts", "scala", "c", "h", "cc", "cpp", "cxx",
    "hh", "hpp", "cs", "fs", "swift", "m", "rb", "php", "pl", "lua", "r", "jl", "ex", "exs", "erl", "hs",
    "ml", "clj", "dart", "zig", "nim", "sh", "bash", "zsh", "ps1", "sql", "proto", "graphql", "css", "scss",
    "vue", "svelte", "toml", "yaml", "yml",
];

/// Folders that hold what machines made.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

/// What to take from a folder. A file named by itself is always taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Files whose extension says that they are text.
    TextLike,
    /// Every file.
    All,
}

/// A file to ingest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The document's path.
    pub document: String,
    /// Where the bytes are.
    pub file: PathBuf,
}

/// What a walk brought.
#[derive(Debug, Default)]
pub struct Walk {
    /// The files, by document path, each path once.
    pub found: Vec<Found>,
    /// What could not be looked into, and why.
    pub unreadable: Vec<(String, String)>,
}

/// Walks files and folders. In folders it skips what is hidden, `target` and `node_modules`, and follows no symlinks.
///
/// # Errors
/// Names every path that does not exist.
pub fn walk(cwd: &Path, paths: &[PathBuf], selection: Selection) -> Result<Walk, Vec<String>> {
    let missing: Vec<String> = paths
        .iter()
        .filter_map(|path| std::fs::metadata(cwd.join(path)).err().map(|error| complaint(path, &error)))
        .collect();
    if !missing.is_empty() {
        return Err(missing);
    }
    let mut walk = Gathered::default();
    for path in paths {
        let start = cwd.join(path);
        let entries =
            WalkDir::new(&start).into_iter().filter_entry(|entry| entry.depth() == 0 || wanted(entry));
        for entry in entries {
            match entry {
                Ok(entry) if takes(&entry, selection) => walk.take(cwd, path, &start, entry),
                Ok(_) => {}
                Err(error) => walk.refuse(path, &error),
            }
        }
    }
    let found = walk.found.into_iter().map(|(document, file)| Found { document, file }).collect();
    Ok(Walk { found, unreadable: walk.unreadable })
}

/// What has been found so far, each document once.
#[derive(Default)]
struct Gathered {
    found: BTreeMap<String, PathBuf>,
    unreadable: Vec<(String, String)>,
}

impl Gathered {
    fn take(&mut self, cwd: &Path, given: &Path, start: &Path, entry: DirEntry) {
        let below = entry.path().strip_prefix(start).unwrap_or(Path::new(""));
        match document_path(cwd, &given.join(below)) {
            Some(document) => drop(self.found.insert(document, entry.into_path())),
            None => {
                let name = entry.path().display().to_string();
                self.unreadable.push((name, "its name is not UTF-8; rename the file".to_owned()));
            }
        }
    }

    fn refuse(&mut self, given: &Path, error: &walkdir::Error) {
        let name = error.path().unwrap_or(given).display().to_string();
        self.unreadable.push((name, error.io_error().map_or_else(|| error.to_string(), reason)));
    }
}

/// The name under which the file at `path`, as given on the command line, is a document: relative to the current
/// directory where it lies below it, with `/` between its parts and without `.` and `..` where they say nothing.
/// None when the path is not UTF-8.
fn document_path(cwd: &Path, path: &Path) -> Option<String> {
    let normal = normalise(path);
    let normal = normal.strip_prefix(cwd).unwrap_or(&normal);
    let parts: Option<Vec<&str>> = normal
        .components()
        .filter(|part| !matches!(part, Component::RootDir))
        .map(|part| part.as_os_str().to_str())
        .collect();
    let root = if normal.has_root() { "/" } else { "" };
    Some(format!("{root}{}", parts?.join("/")))
}

fn normalise(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(normal.components().next_back(), Some(Component::Normal(_))) => {
                normal.pop();
            }
            Component::ParentDir if normal.has_root() => {}
            part => normal.push(part),
        }
    }
    normal
}

/// What went wrong with a file, as said to a person.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or folder".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

fn complaint(path: &Path, error: &io::Error) -> String {
    format!("{}: {}", path.display(), reason(error))
}

fn wanted(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    !(name.starts_with('.') || entry.file_type().is_dir() && SKIPPED.contains(&name.as_ref()))
}

fn takes(entry: &DirEntry, selection: Selection) -> bool {
    let file = entry.file_type().is_file() || (entry.depth() == 0 && entry.path().is_file());
    file && (entry.depth() == 0 || selection == Selection::All || text_like(entry.path()))
}

/// Whether a file's extension says that it is text.
pub(super) fn text_like(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

#[cfg(test)]
mod tests;
