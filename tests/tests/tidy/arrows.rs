//! Who may depend on whom: proto <- shared <- services <- tests, and the dependencies that do real work.
use crate::{Repository, assert_clean, assert_finds, repository::Package};

/// What `weft-balance` must never link: it decides, others do.
const IO_CRATES: [&str; 8] = ["tokio", "hyper", "tonic", "tower", "axum", "reqwest", "socket2", "weft-mesh"];

/// A dependency the project promises to put to use, and the package and source text where it does.
const REAL_WORK: [(&str, &str, &str); 9] = [
    ("tonic", "weft-runtime", "tonic::"),
    ("prost", "weft-mesh", "prost::"),
    ("tokio", "weft-runtime", "tokio::"),
    ("redis", "weft-cache", "redis::"),
    ("sqlx", "weft-database", "sqlx::"),
    ("lapin", "weft-queue", "lapin::"),
    ("tower", "weft-runtime", "tower::"),
    ("opentelemetry", "weft-runtime", "opentelemetry::"),
    ("tracing-opentelemetry", "weft-runtime", "tracing_opentelemetry::"),
];

/// The layer of a package by its folder, lowest first.
fn layer(folder: &str) -> Option<u8> {
    match folder.split('/').next()? {
        "proto" => Some(0),
        "shared" => Some(1),
        "services" => Some(2),
        "tests" => Some(3),
        _ => None,
    }
}

fn directions(repository: &Repository) -> Vec<String> {
    let packages = repository.packages();
    let find = |name: &str| packages.iter().find(|package| package.name == name);
    let mut findings = Vec::new();
    for package in &packages {
        let links = package.links().into_iter().map(|link| (link, false));
        let dev_links = package.dev_links().into_iter().map(|link| (link, true));
        for (link, dev) in links.chain(dev_links) {
            let Some(target) = find(link) else { continue };
            findings.extend(
                problem(package, target, dev).map(|why| format!("{} -> {link}: {why}", package.name)),
            );
        }
    }
    findings
}

fn problem(from: &Package<'_>, to: &Package<'_>, dev: bool) -> Option<&'static str> {
    if to.name == "weft-testkit" && !dev {
        return Some("the test kit is for dev-dependencies only");
    }
    match (layer(from.folder), layer(to.folder)) {
        (None, _) | (_, None) => Some("a package outside proto, shared, services and tests"),
        (Some(from_layer), Some(to_layer)) if to_layer > from_layer => {
            Some("dependencies point downward only")
        }
        (Some(2), Some(2)) if from.folder != "services/weft" => {
            Some("a service knows another by its contract only; services/weft alone links them all")
        }
        _ => None,
    }
}

fn pure_balance(repository: &Repository) -> Vec<String> {
    let packages = repository.packages();
    let Some(balance) = packages.iter().find(|package| package.name == "weft-balance") else {
        return vec!["there is no weft-balance".into()];
    };
    let links = balance.links();
    let io = IO_CRATES.into_iter().filter(|name| links.contains(name));
    io.map(|name| format!("weft-balance links {name}: it is pure, and what does I/O is weft-mesh")).collect()
}

fn idle_requirements(repository: &Repository) -> Vec<String> {
    let packages = repository.packages();
    let works = |dependency: &str, package: &str, text: &str| {
        let package = packages.iter().find(|known| known.name == package)?;
        let linked = package.links().contains(&dependency);
        let mut sources = repository.rust(package.folder).filter(|(path, _)| path.contains("/src/"));
        (linked && sources.any(|(_, source)| source.contains(text))).then_some(())
    };
    let idle =
        REAL_WORK.iter().filter(|(dependency, package, text)| works(dependency, package, text).is_none());
    idle.map(|(dependency, package, text)| {
        format!("{package} does not put {dependency} to use (no `{text}` in its sources)")
    })
    .collect()
}

fn manifest(name: &str, dependencies: &str) -> String {
    format!("[package]\nname = \"{name}\"\n[dependencies]\n{dependencies}\n")
}

#[test]
fn dependencies_point_downward() {
    assert_clean(&directions(&Repository::here()));
}

#[test]
fn balance_is_pure() {
    assert_clean(&pure_balance(&Repository::here()));
}

#[test]
fn required_dependencies_do_real_work() {
    assert_clean(&idle_requirements(&Repository::here()));
}

#[test]
fn an_arrow_upward_is_found() {
    let repository = Repository::of(&[
        ("shared/mesh/Cargo.toml", &manifest("weft-mesh", "weft-cache.workspace = true")),
        ("services/cache/Cargo.toml", &manifest("weft-cache", "weft-mesh.workspace = true")),
    ]);
    assert_finds(&directions(&repository), &["weft-mesh -> weft-cache", "downward"]);
}

#[test]
fn a_service_that_links_another_is_found_but_not_the_launcher() {
    let repository = Repository::of(&[
        ("services/cache/Cargo.toml", &manifest("weft-cache", "")),
        ("services/queue/Cargo.toml", &manifest("weft-queue", "weft-cache.workspace = true")),
        (
            "services/weft/Cargo.toml",
            &manifest("weft", "weft-cache.workspace = true\nweft-queue.workspace = true"),
        ),
    ]);
    assert_finds(&directions(&repository), &["weft-queue -> weft-cache", "contract"]);
}

#[test]
fn the_test_kit_in_a_product_is_found() {
    let dev = "[package]\nname = \"weft-queue\"\n[dev-dependencies]\nweft-testkit.workspace = true\n";
    let repository = Repository::of(&[
        ("shared/testkit/Cargo.toml", &manifest("weft-testkit", "")),
        ("services/cache/Cargo.toml", &manifest("weft-cache", "weft-testkit.workspace = true")),
        ("services/queue/Cargo.toml", dev),
    ]);
    assert_finds(&directions(&repository), &["weft-cache -> weft-testkit", "dev-dependencies only"]);
}

#[test]
fn a_balance_that_does_io_is_found() {
    let repository =
        Repository::of(&[("shared/balance/Cargo.toml", &manifest("weft-balance", "tokio = \"1\""))]);
    assert_finds(&pure_balance(&repository), &["tokio"]);
}

#[test]
fn a_dependency_that_only_stands_in_the_manifest_is_found() {
    let repository = Repository::of(&[
        ("services/cache/Cargo.toml", &manifest("weft-cache", "redis = \"1\"")),
        ("services/cache/src/lib.rs", "//! Says nothing of it."),
    ]);
    assert!(
        idle_requirements(&repository)
            .iter()
            .any(|finding| finding.starts_with("weft-cache does not put redis"))
    );
    let repository = Repository::of(&[
        ("services/cache/Cargo.toml", &manifest("weft-cache", "redis = \"1\"")),
        ("services/cache/src/store/redis.rs", "use redis::Client;"),
    ]);
    assert!(!idle_requirements(&repository).iter().any(|finding| finding.contains("redis")));
}
