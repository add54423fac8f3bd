//! `weft cert`: certificates for development, from an authority of one's own.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use jiff::{ToSpan as _, Zoned, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::{cli::CertArguments, terminal};

/// How long the authority is good for: longer than what it vouches for.
const AUTHORITY_YEARS: i64 = 30;

/// Runs `weft cert`.
pub(crate) fn command(arguments: &CertArguments) -> anyhow::Result<ExitCode> {
    let CertArguments { names, out, days } = arguments;
    let first = names.first().map_or("localhost", String::as_str);
    if first.eq_ignore_ascii_case("ca") || first.contains(['/', '\\']) {
        anyhow::bail!("the first name is that of the files, and cannot be {first}");
    }
    let mut params = CertificateParams::new(names.clone()).context("these are no names of servers")?;
    fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let (authority, today) = (authority(out)?, today());
    params.distinguished_name.push(DnType::CommonName, first);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, today, today.checked_add((i64::from(*days) + 1).days())?)?;
    let key = KeyPair::generate()?;
    let signed = params.signed_by(&key, &authority)?;
    // `*` stands for more than one file to a shell.
    let file = |kind| out.join(format!("{}.{kind}", first.replace('*', "_")));
    let (certificate, private) = (file("pem"), file("key"));
    write(&certificate, &signed.pem(), 0o644)?;
    write(&private, &key.serialize_pem(), 0o600)?;
    let (ca, names) = (out.join("ca.pem"), names.join(", "));
    let host = first.replace('*', "any");
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    terminal::print(&format!(
        "authority    {}\ncertificate  {}  for {names}, {days} days\nkey          {}\n\n\
         # In the gateway's configuration; for `weft up` it is [[gateway.listeners]], beside the one without TLS.\n\
         [[listeners]]\naddress = \"127.0.0.1:7443\"\n\
         tls = {{ certificates = [{{ certificate = {certificate:?}, key = {private:?} }}] }}\n\n\
         curl --cacert {} --connect-to ::127.0.0.1:7443 https://{host}/health\n",
        ca.display(),
        certificate.display(),
        private.display(),
        ca.display(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// The authority in a folder, made if there is none.
fn authority(folder: &Path) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let (certificate, private) = (folder.join("ca.pem"), folder.join("ca.key"));
    // Half of one is somebody's loss, and not to be written over.
    if certificate.exists() || private.exists() {
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
        };
        let key = KeyPair::from_pem(&read(&private)?);
        let key = key.with_context(|| format!("{} is no key", private.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&read(&certificate)?, key);
        return issuer
            .with_context(|| format!("{} is no certificate of an authority", certificate.display()));
    }
    let today = today();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "Weft development");
    valid(&mut params, today, today.checked_add(AUTHORITY_YEARS.years())?)?;
    let key = KeyPair::generate()?;
    write(&certificate, &params.self_signed(&key)?.pem(), 0o644)?;
    write(&private, &key.serialize_pem(), 0o600)?;
    Ok(Issuer::new(params, key))
}

/// Where certificates count days.
fn today() -> Date {
    Zoned::now().with_time_zone(TimeZone::UTC).date()
}

/// Good from yesterday, since clocks differ.
fn valid(params: &mut CertificateParams, today: Date, until: Date) -> anyhow::Result<()> {
    let moment = |date: Date| -> anyhow::Result<_> {
        Ok(date_time_ymd(i32::from(date.year()), date.month().try_into()?, date.day().try_into()?))
    };
    params.not_before = moment(today.yesterday()?)?;
    params.not_after = moment(until)?;
    Ok(())
}

/// Writes a file that nobody else may have read before its mode was right.
fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    // An old file would keep its own mode.
    let _ = fs::remove_file(path);
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("{} cannot be written", path.display()))
}
