//! Which crates a file may name: transport stays above the domain, each backend in its own room, the environment in one.
use crate::{
    Repository, assert_clean, assert_finds,
    repository::{code, names_crate},
};

/// Client crates of backends, each with the rooms where it may be named.
const BACKENDS: [(&str, &[&str]); 4] = [
    ("redis", &["services/cache/src/store"]),
    ("sqlx", &["services/database/src/repository", "services/queue/src/jobs"]),
    ("lapin", &["services/queue/src/broker"]),
    ("object_store", &["services/assets/src/storage"]),
];

/// Files below `rpc.rs` that may name tonic, with the reason.
const TONIC_FILES: [(&str, &str); 5] = [
    ("services/gateway/src/forward/answer.rs", "a forwarder answers in gRPC's own codes"),
    ("services/gateway/src/translate/codes.rs", "a status of gRPC is read, to be said in another protocol"),
    ("services/gateway/src/stats.rs", "a client of every service's statistics"),
    ("services/database/src/read_through.rs", "a client of the cache"),
    ("services/queue/src/handler/document.rs", "a client of the database and the assets"),
];

/// Places that may read the environment, with the reason.
const ENVIRONMENT_READERS: [(&str, &str); 7] = [
    ("shared/runtime/src/config", "the one place that turns it into configuration"),
    ("shared/testkit/src/environment.rs", "test infrastructure has no configuration of its own"),
    ("services/queue/src/extractor/child.rs", "a test hook shows what the child was given"),
    ("services/weft/src/cli.rs", "NO_COLOR, the convention of terminals"),
    ("tests/tests", "tests are started with it"),
    ("proto/build.rs", "Cargo speaks to build scripts by it"),
    ("tests/build.rs", "Cargo speaks to build scripts by it"),
];

fn in_room(path: &str, room: &str) -> bool {
    path.strip_prefix(room).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
}

/// Findings for the lines of services' code that `names` picks, in files that `allowed` does not let through.
fn misplaced(
    repository: &Repository,
    names: impl Fn(&str) -> bool,
    allowed: impl Fn(&str) -> bool,
    why: &str,
) -> Vec<String> {
    let sources = repository.rust("services").filter(|(path, _)| path.contains("/src/") && !allowed(path));
    let lines = sources.flat_map(|(path, text)| code(text).map(move |(number, line)| (path, number, line)));
    lines
        .filter(|(_, _, line)| names(line))
        .map(|(path, number, line)| format!("{path}:{number}: {why}: {}", line.trim()))
        .collect()
}

fn transport_below_rpc(repository: &Repository) -> Vec<String> {
    let above = |path: &str| {
        let file = path.split_once("/src/").map_or(path, |(_, file)| file);
        in_room(file, "rpc") || file == "lib.rs" || TONIC_FILES.iter().any(|(excepted, _)| *excepted == path)
    };
    misplaced(repository, |line| names_crate(line, "tonic"), above, "no tonic type below rpc.rs")
}

fn backends_outside_their_rooms(repository: &Repository) -> Vec<String> {
    let of_backend = |(krate, rooms): &(&str, &[&str])| {
        let allowed = |path: &str| rooms.iter().any(|room| in_room(path, room));
        let why = format!("{krate} belongs to {}", rooms.join(" and "));
        let imports = |path: &str| repository.text(path).is_some_and(|text| imports_module(text, krate));
        misplaced(repository, |line| names_crate(line, krate), |path| allowed(path) || imports(path), &why)
    };
    BACKENDS.iter().flat_map(of_backend).collect()
}

/// Whether the file imports a module of its own crate by that name, which then is what the name means.
fn imports_module(text: &str, name: &str) -> bool {
    let statements = text.split("use crate::").skip(1).filter_map(|rest| Some(rest.split_once(';')?.0));
    let mut parts = statements.flat_map(|statement| statement.split(['{', '}', ',', ' ', '\n']));
    parts.any(|part| part == name || part.strip_suffix(name).is_some_and(|path| path.ends_with("::")))
}

fn environment_readers(repository: &Repository) -> Vec<String> {
    let reads = |line: &str| {
        ["env::var(", "env::var_os(", "env::vars", "env = \""].iter().any(|read| line.contains(read))
    };
    let excepted = |path: &str| ENVIRONMENT_READERS.iter().any(|(place, _)| in_room(path, place));
    let files = repository.rust("").filter(|(path, _)| !excepted(path));
    let lines = files.flat_map(|(path, text)| code(text).map(move |(number, line)| (path, number, line)));
    let found = lines.filter(|(_, _, line)| reads(line));
    found
        .map(|(path, number, line)| {
            format!("{path}:{number}: configuration reads the environment: {}", line.trim())
        })
        .collect()
}

#[test]
fn transport_stays_above_the_domain() {
    assert_clean(&transport_below_rpc(&Repository::here()));
}

#[test]
fn backends_stay_in_their_rooms() {
    assert_clean(&backends_outside_their_rooms(&Repository::here()));
}

#[test]
fn the_environment_is_read_in_one_place() {
    assert_clean(&environment_readers(&Repository::here()));
}

#[test]
fn every_exception_is_still_needed() {
    let repository = Repository::here();
    let files = TONIC_FILES.iter().chain(&ENVIRONMENT_READERS).map(|(place, _)| *place);
    let gone = files.filter(|place| !repository.files().any(|(path, _)| in_room(path, place)));
    assert_clean(&gone.map(|place| format!("{place} is excepted and is not there")).collect::<Vec<_>>());
    let idle = TONIC_FILES.iter().filter(|(file, _)| {
        repository.text(file).is_some_and(|text| !code(text).any(|(_, line)| names_crate(line, "tonic")))
    });
    assert_clean(&idle.map(|(file, _)| format!("{file} no longer names tonic")).collect::<Vec<_>>());
}

#[test]
fn transport_in_the_domain_is_found() {
    let repository = Repository::of(&[
        ("services/a/src/rpc.rs", "use tonic::Status;"),
        ("services/a/src/rpc/users.rs", "use tonic::Status;"),
        ("services/a/src/entries.rs", "/// Not a tonic::Status.\nfn f() -> tonic::Status {}"),
    ]);
    assert_finds(&transport_below_rpc(&repository), &["services/a/src/entries.rs:2"]);
}

#[test]
fn a_backend_outside_its_room_is_found() {
    let repository = Repository::of(&[
        ("services/cache/src/store.rs", "pub use redis::RedisStore;"),
        ("services/cache/src/store/redis.rs", "use redis::Client;"),
        ("services/cache/src/entries.rs", "use redis::Client;"),
        (
            "services/cache/src/config.rs",
            "use crate::store::{\n    memory, redis,\n};\nredis::check_url(url)",
        ),
    ]);
    assert_finds(
        &backends_outside_their_rooms(&repository),
        &["services/cache/src/entries.rs:1", "redis belongs to"],
    );
}

#[test]
fn reading_the_environment_elsewhere_is_found() {
    let repository = Repository::of(&[
        ("shared/runtime/src/config/load.rs", "std::env::vars()"),
        ("shared/mesh/src/lib.rs", "std::env::var(\"HOME\")"),
    ]);
    assert_finds(&environment_readers(&repository), &["shared/mesh/src/lib.rs:1"]);
    let repository = Repository::of(&[("services/weft/src/main.rs", "#[arg(long, env = \"WEFT_USER\")]")]);
    assert_finds(&environment_readers(&repository), &["services/weft/src/main.rs:1"]);
}
