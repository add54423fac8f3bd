//! One skeleton for all five services.
use crate::{Repository, assert_clean, assert_finds};

const SERVICES: [&str; 5] = ["assets", "cache", "database", "gateway", "queue"];
const FILES: [&str; 9] = [
    "Cargo.toml",
    "README.md",
    "src/main.rs",
    "src/lib.rs",
    "src/config.rs",
    "src/error.rs",
    "src/rpc.rs",
    "src/metrics.rs",
    "tests/it/main.rs",
];

fn missing_files(repository: &Repository, services: &[&str]) -> Vec<String> {
    let paths = services.iter().flat_map(|service| FILES.map(|file| format!("services/{service}/{file}")));
    paths.filter(|path| repository.text(path).is_none()).map(|path| format!("{path} is missing")).collect()
}

/// `services/cache` holds the package `weft-cache` and the binary of that name; the launcher is plain `weft`.
fn misnamed(repository: &Repository) -> Vec<String> {
    let mut findings = Vec::new();
    for package in repository.packages() {
        let folder = package.folder.rsplit('/').next().unwrap_or_default();
        let expected = if folder == "weft" { "weft".to_owned() } else { format!("weft-{folder}") };
        if package.name != expected {
            findings.push(format!("{} holds {}, not {expected}", package.folder, package.name));
        }
        let binaries = package.manifest.get("bin").and_then(toml::Value::as_array);
        let names = binaries.into_iter().flatten().filter_map(|binary| binary.get("name")?.as_str());
        findings.extend(
            names
                .filter(|name| *name != expected)
                .map(|name| format!("{} builds {name}, not {expected}", package.folder)),
        );
    }
    findings
}

fn stray_folders(repository: &Repository) -> Vec<String> {
    let known = |folder: &str| SERVICES.contains(&folder) || folder == "weft";
    let packages = repository.packages();
    let services = packages.iter().filter_map(|package| package.folder.strip_prefix("services/"));
    services
        .filter(|folder| !known(folder))
        .map(|folder| format!("services/{folder} is no known service"))
        .collect()
}

#[test]
fn every_service_has_the_same_skeleton() {
    assert_clean(&missing_files(&Repository::here(), &SERVICES));
}

#[test]
fn folders_packages_and_binaries_have_one_name() {
    assert_clean(&misnamed(&Repository::here()));
}

#[test]
fn there_are_five_services_and_the_launcher() {
    assert_clean(&stray_folders(&Repository::here()));
}

#[test]
fn a_missing_file_is_found() {
    let there: Vec<String> = FILES
        .iter()
        .filter(|file| **file != "src/metrics.rs")
        .map(|file| format!("services/a/{file}"))
        .collect();
    let files: Vec<(&str, &str)> = there.iter().map(|path| (path.as_str(), "")).collect();
    assert_finds(&missing_files(&Repository::of(&files), &["a"]), &["services/a/src/metrics.rs is missing"]);
}

#[test]
fn another_name_is_found() {
    let manifest = "[package]\nname = \"weft-store\"\n";
    assert_finds(
        &misnamed(&Repository::of(&[("services/cache/Cargo.toml", manifest)])),
        &["weft-store", "weft-cache"],
    );
    let manifest = "[package]\nname = \"weft-cache\"\n[[bin]]\nname = \"cached\"\n";
    assert_finds(
        &misnamed(&Repository::of(&[("services/cache/Cargo.toml", manifest)])),
        &["cached", "weft-cache"],
    );
}

#[test]
fn a_sixth_service_is_found() {
    let manifest = "[package]\nname = \"weft-search\"\n";
    assert_finds(
        &stray_folders(&Repository::of(&[("services/search/Cargo.toml", manifest)])),
        &["services/search"],
    );
}
