//! A backend as a process of its own, which tests may stop, kill and suspend.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    weft_runtime::main::<weft_tests::backend::Testing>()
}
