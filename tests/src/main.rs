//! The `weft` program again, so that system tests find one that was built with them: `CARGO_BIN_EXE_weft-tests`.
//! `weft-tests serve NAME …` is `weft-NAME …`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let serve = arguments.get(1).is_some_and(|argument| argument == "serve");
    match arguments.get(2).and_then(|name| name.to_str()).filter(|_| serve) {
        Some("gateway") => weft_runtime::run_with::<weft_gateway::Gateway>(arguments.into_iter().skip(2)),
        Some("cache") => weft_runtime::run_with::<weft_cache::Cache>(arguments.into_iter().skip(2)),
        Some("database") => weft_runtime::run_with::<weft_database::Database>(arguments.into_iter().skip(2)),
        Some("queue") => weft_runtime::run_with::<weft_queue::Queue>(arguments.into_iter().skip(2)),
        Some("assets") => weft_runtime::run_with::<weft_assets::Assets>(arguments.into_iter().skip(2)),
        _ => weft::main(),
    }
}
