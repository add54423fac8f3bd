//! A file of targets, read again when it changes.
//!
//! One target per line, `host:port [weight=N] [tier=N]`; `#` begins a comment. Whoever writes it should write another file and
//! rename it, so that no half of a list is ever seen. A file that is broken or names no target changes nothing.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;
use weft_balance::MAX_WEIGHT;

use super::{Finder, Target, table::Place};

/// How often the file is read.
const POLL: Duration = Duration::from_secs(1);
/// The largest file read.
const LIMIT_BYTES: u64 = 1024 * 1024;
/// Problems named at once.
const PROBLEMS_SHOWN: usize = 3;

/// Keeps the targets of a pool what a file says, until it is dropped. It compares what it reads: two files written in one
/// tick of the kernel's clock have the same time, and may have the same length.
pub(super) async fn follow(finder: Arc<Finder>, path: PathBuf) {
    let mut seen = None;
    loop {
        let now = read(&path).await;
        if seen.as_ref() != Some(&now) {
            match now.as_deref().map_err(Clone::clone).and_then(parse) {
                Ok(targets) => finder.set(Place::File, targets),
                Err(error) => finder.fail(format!("{}: {error}", path.display())),
            }
            seen = Some(now);
        }
        sleep(POLL).await;
    }
}

async fn read(path: &Path) -> Result<String, String> {
    let file = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?;
    if file.len() > LIMIT_BYTES {
        return Err(format!("is larger than {LIMIT_BYTES} bytes"));
    }
    tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())
}

fn parse(text: &str) -> Result<Vec<Target>, String> {
    let (mut targets, mut seen, mut problems) = (Vec::new(), HashSet::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default();
        match parse_line(line) {
            Ok(Some(target)) if seen.insert(target.address.clone()) => targets.push(target),
            Ok(Some(target)) => problems.push(format!("line {number}: {} is there twice", target.address)),
            Ok(None) => {}
            Err(problem) => problems.push(format!("line {number}: {problem}")),
        }
    }
    if problems.is_empty() && targets.is_empty() {
        problems.push("names no backend".to_owned());
    }
    if problems.is_empty() {
        return Ok(targets);
    }
    let more = problems.len().saturating_sub(PROBLEMS_SHOWN);
    problems.truncate(PROBLEMS_SHOWN);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(format!("{}{more}", problems.join("; ")))
}

fn parse_line(line: &str) -> Result<Option<Target>, String> {
    let mut words = line.split_whitespace();
    let Some(address) = words.next() else { return Ok(None) };
    if !Target::is_address(address) {
        return Err(format!("\"{address}\" is not host:port"));
    }
    let mut target = Target { address: address.to_owned(), weight: 1, tier: 0 };
    for word in words {
        match word.split_once('=') {
            Some(("weight", weight)) => target.weight = parse_weight(weight)?,
            Some(("tier", tier)) => {
                target.tier = tier.parse().map_err(|_| format!("tier must be 0 to 255, is \"{tier}\""))?;
            }
            _ => return Err(format!("\"{word}\" is not weight=N or tier=N")),
        }
    }
    Ok(Some(target))
}

fn parse_weight(text: &str) -> Result<u32, String> {
    let weight = text.parse().ok().filter(|weight| (1..=MAX_WEIGHT).contains(weight));
    weight.ok_or_else(|| format!("weight must be 1 to {MAX_WEIGHT}, is \"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_targets() {
        let text = "# ours\n\n 10.0.0.1:80 \n[::1]:80 weight=7 tier=2 # twice the size\nweb.internal:80\nsrv:_grpc._tcp.web\n";
        let targets = parse(text).unwrap();
        let targets: Vec<_> =
            targets.iter().map(|target| (target.address.as_str(), target.weight, target.tier)).collect();
        let expected = [
            ("10.0.0.1:80", 1, 0),
            ("[::1]:80", 7, 2),
            ("web.internal:80", 1, 0),
            ("srv:_grpc._tcp.web", 1, 0),
        ];
        assert_eq!(targets, expected);
    }

    #[test]
    fn a_problem_names_its_line() {
        for (text, problem) in [
            ("a:1\nnowhere\n", "line 2: \"nowhere\" is not host:port"),
            ("a:1 weight=0\n", "line 1: weight must be 1 to 1000, is \"0\""),
            ("a:1 weigth=2\n", "line 1: \"weigth=2\" is not weight=N or tier=N"),
            ("a:1 tier=x\n", "line 1: tier must be 0 to 255, is \"x\""),
            ("a:1\n\na:1 weight=2\n", "line 3: a:1 is there twice"),
            ("# nothing\n", "names no backend"),
            ("1\n2\n3\n4\n5\n", "line 3: \"3\" is not host:port; and 2 more"),
        ] {
            assert!(parse(text).unwrap_err().ends_with(problem), "{text}: {}", parse(text).unwrap_err());
        }
    }
}
