//! Which package's tests used which server: how `tests/run.sh` knows that a suite needed none, or really ran.
use std::{fs::File, io::Write as _};

use crate::{Error, Result, environment::variable};

/// Names the file, if a ledger is kept.
const LEDGER_VARIABLE: &str = "WEFT_TESTKIT_LEDGER";
/// Set by Cargo and cargo-nextest for the tests they run.
const PACKAGE_VARIABLE: &str = "CARGO_PKG_NAME";

/// Adds the line `<package> <server>` to the ledger that `tests/run.sh` keeps, if it does. Servers of this package do it
/// when they start; a test that starts another installed program names it here.
///
/// # Errors
/// When the ledger cannot be written.
pub fn record(server: &str) -> Result<()> {
    let Some(path) = variable(LEDGER_VARIABLE) else { return Ok(()) };
    let package = variable(PACKAGE_VARIABLE).unwrap_or_else(|| "-".into());
    let mut ledger =
        File::options().create(true).append(true).open(&path).map_err(Error::io("open", &path))?;
    // One write: lines of several processes do not mix.
    ledger.write_all(format!("{package} {server}\n").as_bytes()).map_err(Error::io("write", &path))
}
