//! `weft key`: API keys, of which the gateway's file keeps hashes.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use weft_mesh::context::is_user_name;

use crate::{
    cli::{KeyCommand, KeyFile},
    session::Session,
    table::{Align, Cell, Table},
    terminal,
};

/// What stands above the keys.
const HEADING: &str = "# API keys of a gateway (auth.api_keys), kept by `weft key`. Of the keys themselves there are hashes only.\n\n";
/// Letters and digits of an id, by which people tell keys apart.
const ID_LENGTH: usize = 8;

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    keys: Vec<Key>,
}

/// A key, without itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    id: String,
    sha256: String,
    user: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
}

/// Runs `weft key`.
pub(crate) fn command(session: &Session, command: &KeyCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeyCommand::Create { user, roles, scopes, days, file } => {
            let scopes = Some(scopes.clone()).filter(|scopes| !scopes.is_empty());
            create(&file.path, user, (roles, scopes), *days)?;
        }
        KeyCommand::Ls(KeyFile { path }) => list(session, path)?,
        KeyCommand::Revoke { ids, file } => revoke(&file.path, ids)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn create(
    path: &Path,
    user: &str,
    (roles, scopes): (&[String], Option<Vec<String>>),
    days: Option<u32>,
) -> anyhow::Result<()> {
    if !is_user_name(user) {
        bail!("`{user}` is no user name: it must be 1 to 128 bytes of printable ASCII without spaces");
    }
    let _lock = lock(path)?;
    let mut file = read(path)?.unwrap_or_default();
    let now = Timestamp::now();
    let id = id(&file)?;
    let secret = URL_SAFE_NO_PAD.encode(random::<32>()?);
    let sha256 = Sha256::digest(&secret).iter().map(|byte| format!("{byte:02x}")).collect();
    let until = |days: u32| now.checked_add(Duration::from_secs(u64::from(days) * 86_400));
    let expires = days.map(until).transpose().context("that is too long")?;
    let expires = expires.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let created = Some(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let (user, roles) = (user.to_owned(), roles.to_vec());
    file.keys.push(Key { id: id.clone(), sha256, user, roles, scopes, expires, created });
    write(path, &file)?;
    terminal::print(&format!("weft_{id}_{secret}\n"))?;
    terminal::tell(format!("kept as {id} in {}; this was the only time to read it", path.display()));
    Ok(())
}

fn list(session: &Session, path: &Path) -> anyhow::Result<()> {
    let file = read(path)?.with_context(|| format!("there is no {}", path.display()))?;
    let columns = ["ID", "USER", "ROLES", "FOR", "EXPIRES"].map(|name| (name, Align::Left));
    let mut table = Table::new(&columns);
    for key in &file.keys {
        let scopes = key.scopes.as_ref().map_or_else(|| "all".to_owned(), |scopes| scopes.join(" "));
        let expires = key.expires.clone().unwrap_or_else(|| "never".to_owned());
        table.row(
            [key.id.clone(), key.user.clone(), key.roles.join(" "), scopes, expires].map(Cell::from).into(),
        );
    }
    terminal::print(&table.render(session.out))?;
    Ok(())
}

fn revoke(path: &Path, ids: &[String]) -> anyhow::Result<()> {
    let _lock = lock(path)?;
    let mut file = read(path)?.with_context(|| format!("there is no {}", path.display()))?;
    for id in ids {
        let before = file.keys.len();
        file.keys.retain(|key| key.id != *id);
        if file.keys.len() == before {
            bail!("{} has no key {id}; nothing is changed", path.display());
        }
    }
    write(path, &file)
}

/// Two that change the file at once would undo each other.
fn lock(path: &Path) -> anyhow::Result<fs::File> {
    let failed = || format!("cannot lock {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    let beside = path.with_extension("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(beside);
    let file = file.with_context(failed)?;
    file.lock().with_context(failed)?;
    Ok(file)
}

fn read(path: &Path) -> anyhow::Result<Option<File>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    // What the parser shows of the file could be a part of a secret that does not belong there.
    let file =
        toml::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {}", path.display(), error.message()))?;
    Ok(Some(file))
}

/// Puts a new file in the place of the old one, in one step: a gateway may be reading it.
fn write(path: &Path, file: &File) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let text = format!("{HEADING}{}", toml::to_string(file)?);
    // As the gateway will read it.
    weft_gateway::check_api_keys(&text).map_err(anyhow::Error::msg)?;
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&draft);
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(|mut new| {
            new.write_all(text.as_bytes())?;
            new.sync_all()
        });
    // Whoever could read it can read it again: a gateway that runs as somebody else.
    let kept = written.and_then(|()| match fs::metadata(path) {
        Ok(old) => {
            fs::set_permissions(&draft, old.permissions())?;
            chown(&draft, Some(old.uid()), Some(old.gid()))
        }
        Err(_) => Ok(()),
    });
    let put = kept.and_then(|()| fs::rename(&draft, path)).with_context(failed);
    put.inspect_err(|_| drop(fs::remove_file(&draft)))
}

/// An id that no other key has.
fn id(file: &File) -> anyhow::Result<String> {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
    loop {
        let letter = |byte: &u8| LETTERS.get(usize::from(*byte) % LETTERS.len()).copied().map(char::from);
        let id: String = random::<ID_LENGTH>()?.iter().filter_map(letter).collect();
        if file.keys.iter().all(|key| key.id != id) {
            return Ok(id);
        }
    }
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let bytes = ring::rand::generate(&ring::rand::SystemRandom::new());
    Ok(bytes.map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?.expose())
}
