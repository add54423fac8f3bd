//! The `weft` program again, so that system tests find one that was built with them: `CARGO_BIN_EXE_weft-tests`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    weft::main()
}
