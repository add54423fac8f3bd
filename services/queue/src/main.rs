//! Runs the queue service; as `weft-queue extract`, a child that reads documents for it.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "extract") {
        return weft_queue::extractor::child_main();
    }
    weft_runtime::main::<weft_queue::Queue>()
}
