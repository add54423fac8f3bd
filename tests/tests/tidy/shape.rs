//! Sizes and shape of files and functions.
use crate::{Repository, assert_clean, assert_finds};

const MOST_LINES: usize = 600;
const MEDIAN_LINES: usize = 150;
const NINE_OF_TEN_LINES: usize = 430;
const FUNCTION_LINES: usize = 50;
const MAIN_LINES: usize = 40;

/// Packages whose root may allow unsafe code in one small module, with the reason.
const UNSAFE_PACKAGES: [(&str, &str); 1] =
    [("weft-runtime", "no safe call takes over a socket that a service manager passed")];

fn long_files(repository: &Repository) -> Vec<String> {
    let long = repository
        .rust("")
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > MOST_LINES);
    long.map(|(path, lines)| {
        format!("{path} has {lines} lines; none has more than {MOST_LINES}: split it by what it does")
    })
    .collect()
}

fn typical_sizes(repository: &Repository) -> Vec<String> {
    let mut sizes: Vec<(usize, &str)> =
        repository.rust("").map(|(path, text)| (text.lines().count(), path)).collect();
    sizes.sort_unstable();
    let quantile = |numerator: usize| sizes.get(sizes.len() * numerator / 10).map_or(0, |(lines, _)| *lines);
    let largest: Vec<String> =
        sizes.iter().rev().take(5).map(|(lines, path)| format!("{path} ({lines})")).collect();
    let limits = [
        ("the median file", quantile(5), MEDIAN_LINES),
        ("one of ten files", quantile(9), NINE_OF_TEN_LINES),
    ];
    let over = limits.into_iter().filter(|(_, lines, limit)| lines >= limit);
    over.map(|(which, lines, limit)| {
        format!("{which} has {lines} lines, the limit is {limit}; the largest are {}", largest.join(", "))
    })
    .collect()
}

/// Functions by their indentation, which rustfmt keeps exact. Tests may be longer where a story is.
fn long_functions(repository: &Repository) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in
        repository.rust("").filter(|(path, _)| !path.contains("/tests/") && !path.ends_with("/tests.rs"))
    {
        let lines: Vec<&str> = text
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]") && !line.starts_with("#[cfg(all(test"))
            .collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| opens_function(line)) {
            let length = function_length(&lines[index..]);
            if length > FUNCTION_LINES {
                let (number, signature) = (index + 1, line.trim());
                findings
                    .push(format!("{path}:{number}: {length} lines, at most {FUNCTION_LINES}: {signature}"));
            }
        }
    }
    findings
}

/// A line that begins a function; one that a macro writes keeps no indentation.
fn opens_function(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let modifier =
        |word: &&str| word.starts_with("pub") || matches!(*word, "async" | "const" | "default" | "in");
    words.find(|word| !modifier(word)) == Some("fn") && !line.contains("fn $")
}

/// How many lines the function on the first of these takes; 0 if it has no body of its own lines.
fn function_length(lines: &[&str]) -> usize {
    let Some((first, rest)) = lines.split_first() else { return 0 };
    let signature_end = lines.iter().find(|line| line.ends_with(['{', ';', '}']));
    if signature_end.is_none_or(|line| !line.ends_with('{')) {
        return 0;
    }
    let end = format!("{}}}", &first[..first.len() - first.trim_start().len()]);
    rest.iter().position(|line| **line == end).map_or(0, |last| last + 2)
}

fn headers(repository: &Repository) -> Vec<String> {
    let missing = repository.rust("").filter(|(_, text)| !text.starts_with("//! "));
    missing.map(|(path, _)| format!("{path} does not begin with a `//!` line that says what it is")).collect()
}

fn mod_files(repository: &Repository) -> Vec<String> {
    let found = repository.rust("").filter(|(path, _)| path.ends_with("/mod.rs"));
    found.map(|(path, _)| format!("{path}: name it after its folder, beside the folder")).collect()
}

fn unsafe_crates(repository: &Repository) -> Vec<String> {
    let excepted = |name: &str| UNSAFE_PACKAGES.iter().any(|(package, _)| *package == name);
    let packages = repository.packages();
    let guarded = packages.iter().filter(|package| !excepted(&package.name));
    let roots = guarded.filter_map(|package| {
        let root = format!("{}/src/lib.rs", package.folder);
        let text = repository.text(&root)?;
        (!text.contains("#![forbid(unsafe_code)]")).then_some(root)
    });
    roots.map(|root| format!("{root} lacks #![forbid(unsafe_code)]")).collect()
}

fn fat_mains(repository: &Repository) -> Vec<String> {
    let mains = repository.rust("services").filter(|(path, _)| path.ends_with("/src/main.rs"));
    let fat = mains.map(|(path, text)| (path, text.lines().count())).filter(|(_, lines)| *lines > MAIN_LINES);
    fat.map(|(path, lines)| {
        format!("{path} has {lines} lines, at most {MAIN_LINES}: a main only starts the library")
    })
    .collect()
}

#[test]
fn no_file_is_too_long() {
    assert_clean(&long_files(&Repository::here()));
}

#[test]
fn files_are_small_as_a_rule() {
    assert_clean(&typical_sizes(&Repository::here()));
}

#[test]
fn functions_fit_on_a_page() {
    assert_clean(&long_functions(&Repository::here()));
}

#[test]
fn every_file_says_what_it_is() {
    assert_clean(&headers(&Repository::here()));
}

#[test]
fn no_file_is_called_mod() {
    assert_clean(&mod_files(&Repository::here()));
}

#[test]
fn every_crate_forbids_unsafe_code() {
    assert_clean(&unsafe_crates(&Repository::here()));
}

#[test]
fn mains_only_start_the_library() {
    assert_clean(&fat_mains(&Repository::here()));
}

#[test]
fn a_long_file_is_found() {
    let text = "//! Long.\n".repeat(MOST_LINES + 1);
    assert_finds(
        &long_files(&Repository::of(&[("services/a/src/a.rs", &text)])),
        &["services/a/src/a.rs", "601"],
    );
}

#[test]
fn a_habit_of_long_files_is_found() {
    let (short, long) = ("//! Short.\n".repeat(10), "//! Long.\n".repeat(200));
    let few = [("a.rs", short.as_str()), ("b.rs", &short), ("c.rs", &long)];
    assert_clean(&typical_sizes(&Repository::of(&few)));
    let many = [("a.rs", short.as_str()), ("b.rs", &long), ("c.rs", &long)];
    assert_finds(&typical_sizes(&Repository::of(&many)), &["median", "200", "c.rs"]);
}

#[test]
fn a_long_function_is_found_and_a_long_test_is_not() {
    let body = "    work();\n".repeat(FUNCTION_LINES);
    let text = format!(
        "//! A.\npub(crate) async fn long(\n    a: u8,\n) {{\n{body}}}\n\nfn short() {{\n    work();\n}}\n"
    );
    assert_finds(
        &long_functions(&Repository::of(&[("src/a.rs", &text)])),
        &["src/a.rs:2", "54 lines", "async fn long("],
    );
    let text = format!("//! A.\ntrait A {{\n    fn required(\n        a: u8,\n    );\n{body}}}\n");
    assert_clean(&long_functions(&Repository::of(&[("src/a.rs", &text)])));
    let text = format!("//! A.\n#[cfg(test)]\nmod tests {{\nfn long() {{\n{body}}}\n}}\n");
    assert_clean(&long_functions(&Repository::of(&[("src/a.rs", &text)])));
}

#[test]
fn what_lacks_a_header_or_is_called_mod_is_found() {
    let repository = Repository::of(&[("src/a.rs", "use b;\n"), ("src/c/mod.rs", "//! C.\n")]);
    assert_finds(&headers(&repository), &["src/a.rs"]);
    assert_finds(&mod_files(&repository), &["src/c/mod.rs"]);
}

#[test]
fn a_crate_that_may_be_unsafe_is_found() {
    let repository = Repository::of(&[
        ("shared/a/Cargo.toml", "[package]\nname = \"weft-a\"\n"),
        ("shared/a/src/lib.rs", "//! A.\n"),
        ("shared/b/Cargo.toml", "[package]\nname = \"weft-b\"\n"),
        ("shared/b/src/lib.rs", "//! B.\n#![forbid(unsafe_code)]\n"),
    ]);
    assert_finds(&unsafe_crates(&repository), &["shared/a/src/lib.rs"]);
}

#[test]
fn a_fat_main_is_found() {
    let text = "//! Main.\n".repeat(MAIN_LINES + 1);
    assert_finds(
        &fat_mains(&Repository::of(&[("services/a/src/main.rs", &text)])),
        &["services/a/src/main.rs", "41"],
    );
}
