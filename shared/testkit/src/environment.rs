//! What the testkit asks of the machine it runs on: who it is, and the few variables it reads.
use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The user and group id that servers get which refuse to run as root: `nobody` and `nogroup` on every Debian.
pub(crate) const NOBODY: u32 = 65534;

/// An environment variable, unless it is unset, empty or not text.
#[allow(clippy::disallowed_methods, reason = "test infrastructure has no config of its own")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A number that a person sets to make a test larger than it usually is.
///
/// # Panics
/// When the variable is set to something else.
#[must_use]
#[allow(clippy::panic, reason = "a test that did less than was asked for would seem to have passed")]
pub fn number(name: &str, default: u64) -> u64 {
    let Some(text) = variable(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name} must be a number, and is {text}"))
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Where `tests/run.sh` keeps what it downloads. Not below root's home: servers must be able to read it as `nobody`.
pub(crate) fn cache_folders() -> Vec<PathBuf> {
    let user = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")))
        .map(|cache| cache.join("weft"));
    [Some(PathBuf::from("/var/cache/weft")), user].into_iter().flatten().collect()
}

/// Gives a file or folder to `nobody` where servers run as `nobody`.
pub(crate) fn give_away(path: &Path) -> io::Result<()> {
    if is_root() { std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)) } else { Ok(()) }
}
