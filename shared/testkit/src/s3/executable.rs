//! Where the program is that serves S3: the `weft-testkit` binary of the same build.
use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{
    Error, Result, environment,
    process::{Account, Launch},
};

const NAME: &str = "weft-testkit";

/// The binary beside the running executable: `<target>/<profile>/weft-testkit`.
pub(super) fn find() -> Result<PathBuf> {
    let running = running()?;
    if running.file_name().is_some_and(|name| name == NAME) {
        return Ok(running);
    }
    beside(&running).filter(|path| path.exists()).ok_or_else(|| missing(&running))
}

/// Builds the binary if it is not there: `cargo test -p weft-cache` builds no binary of another package.
pub(super) async fn ensure() -> Result<()> {
    let running = running()?;
    if find().is_ok() {
        return Ok(());
    }
    let folder = beside(&running).and_then(|path| path.parent().map(Path::to_owned));
    let folder = folder.ok_or_else(|| missing(&running))?;
    let (Some(target), Some(profile)) = (folder.parent(), folder.file_name()) else {
        return Err(missing(&running));
    };
    let profile = if profile == "debug" { "dev".as_ref() } else { profile };
    let cargo = environment::variable("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["build", "--quiet", "--package", NAME, "--bin", NAME, "--profile"].map(AsRef::as_ref);
    let arguments = arguments.into_iter().chain([profile, "--target-dir".as_ref(), target.as_os_str()]);
    // Cargo's own lock keeps test processes that get here together from building it twice.
    Launch::new(cargo, Account::Own, arguments).run(env!("CARGO_MANIFEST_DIR").as_ref()).await.map(drop)
}

fn running() -> Result<PathBuf> {
    env::current_exe().map_err(Error::io("find", "/proc/self/exe"))
}

/// Test executables lie in `<target>/<profile>/deps`, binaries in `<target>/<profile>`.
fn beside(running: &Path) -> Option<PathBuf> {
    let folder = running.parent()?;
    let folder = if folder.file_name()? == "deps" { folder.parent()? } else { folder };
    Some(folder.join(NAME))
}

fn missing(running: &Path) -> Error {
    Error::Missing {
        what: format!("the {NAME} binary beside {}", running.display()),
        install: format!("cargo build -p {NAME}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_finds_the_binary_of_its_own_build() {
        let of = |path: &str| beside(Path::new(path)).unwrap();
        assert_eq!(of("/t/debug/deps/it-0123456789abcdef"), Path::new("/t/debug/weft-testkit"));
        assert_eq!(of("/t/debug/weft"), Path::new("/t/debug/weft-testkit"));
    }
}
