//! The child's side: limits itself, then extracts one document after the other until its input ends.

use std::{
    fs,
    io::{self, Write as _},
    process::ExitCode,
};

use rlimit::Resource;

use super::{
    chunk,
    frame::{self, Answer, Request},
    text,
};

/// The largest frame a child takes. The pool's own limit is smaller.
const MAX_FRAME: usize = 256 << 20;

/// The limits a child was started with: `--memory-mib 512 --cpu-seconds 10`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    /// Address space beyond what the program itself takes.
    memory_mib: u64,
    /// Processor time for one document.
    cpu_seconds: u64,
    /// Whether media types `test/…` make it hang, crash or eat memory. No input can turn that on.
    test_hooks: bool,
}

/// Runs a child until its input ends.
#[must_use]
pub(super) fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    let Some(limits) = parse(arguments) else {
        let _ = writeln!(io::stderr(), "extract is started by weft-queue itself");
        return ExitCode::from(64);
    };
    match limit_memory(limits.memory_mib).and_then(|()| serve(limits)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "extractor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Limits> {
    let mut limits = Limits { memory_mib: 0, cpu_seconds: 0, test_hooks: false };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--memory-mib" => limits.memory_mib = arguments.next()?.parse().ok()?,
            "--cpu-seconds" => limits.cpu_seconds = arguments.next()?.parse().ok()?,
            "--test-hooks" => limits.test_hooks = true,
            _ => return None,
        }
    }
    (limits.memory_mib > 0 && limits.cpu_seconds > 0).then_some(limits)
}

fn serve(limits: Limits) -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    while let Some(header) = frame::read(&mut input, MAX_FRAME)? {
        let request: Request = serde_json::from_slice(&header)?;
        let bytes = frame::read(&mut input, MAX_FRAME)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        limit_processor(limits.cpu_seconds)?;
        if limits.test_hooks {
            misbehave(&request.content_type);
        }
        frame::write(&mut output, &serde_json::to_vec(&answer(&request, &bytes))?)?;
    }
    Ok(())
}

fn answer(request: &Request, bytes: &[u8]) -> Answer {
    match text::extract(&request.path, &request.content_type, bytes) {
        Ok(text) => Answer::Chunks(chunk::split(&text, request.chunk_chars)),
        Err(reason) => Answer::Refused(reason),
    }
}

/// What the program has mapped already does not count: that differs from binary to binary.
fn limit_memory(mib: u64) -> io::Result<()> {
    let mapped_pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split(' ').next()?.parse::<u64>().ok())
        .unwrap_or(0);
    let bytes = (mapped_pages * 4096).saturating_add(mib << 20);
    rlimit::setrlimit(Resource::AS, bytes, bytes)?;
    rlimit::setrlimit(Resource::CORE, 0, 0)?;
    rlimit::setrlimit(Resource::FSIZE, 0, 0)
}

/// The limit counts from the start of the process, so it moves on with every document.
fn limit_processor(seconds: u64) -> io::Result<()> {
    let (_, hard) = rlimit::getrlimit(Resource::CPU)?;
    rlimit::setrlimit(Resource::CPU, (processor_seconds() + seconds).min(hard), hard)
}

/// Processor time used so far, rounded up. Clock ticks are hundredths of a second on every Linux.
fn processor_seconds() -> u64 {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return 0 };
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    ticks / 100 + 1
}

/// Does what a hostile document might make an extractor do.
fn misbehave(content_type: &str) {
    match content_type {
        "test/crash" => std::process::abort(),
        "test/hang" => loop {
            std::thread::park();
        },
        "test/spin" => loop {
            std::hint::spin_loop();
        },
        "test/memory" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            while hoard.len() < 1 << 20 {
                hoard.push(vec![1; 1 << 20]);
            }
            std::hint::black_box(hoard);
        }
        "test/environment" => {
            let names: Vec<String> =
                std::env::vars_os().map(|(name, _)| name.to_string_lossy().into()).collect();
            let answer = Answer::Refused(names.join(","));
            let _ = serde_json::to_vec(&answer).map(|frame| frame::write(&mut io::stdout(), &frame));
            std::process::exit(0);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> impl Iterator<Item = String> {
        line.split_whitespace().map(str::to_owned)
    }

    #[test]
    fn a_child_starts_only_with_limits() {
        assert!(
            parse(arguments("--memory-mib 512 --cpu-seconds 10")).is_some_and(|limits| !limits.test_hooks)
        );
        assert_eq!(parse(arguments("--memory-mib 512")), None);
        assert_eq!(parse(arguments("")), None);
        assert_eq!(parse(arguments("--memory-mib 512 --cpu-seconds 10 --verbose")), None);
    }
}
