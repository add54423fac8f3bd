//! A certificate authority that tests trust.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

use crate::{Error, Result};

/// Vouches for servers and clients; all files are in one folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, as a file.
    pub certificate: PathBuf,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, whose certificate is `<name>.pem` in a folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().map_err(Error::Certificate)?;
        let own = params.self_signed(&key).map_err(Error::Certificate)?;
        let certificate = folder.join(format!("{name}.pem"));
        write(&certificate, &own.pem())?;
        Ok(Self { folder: folder.to_owned(), issuer: Issuer::new(params, key), certificate })
    }

    /// A certificate for some hosts, or URIs: `<name>.pem` and `<name>.key`, in place of what was there under that name.
    ///
    /// # Errors
    /// When a host is none, or a file cannot be written.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Result<Issued> {
        let (uris, hosts): (Vec<String>, Vec<String>) =
            hosts.iter().map(ToString::to_string).partition(|host| host.contains("://"));
        let mut params = CertificateParams::new(hosts).map_err(Error::Certificate)?;
        for uri in uris {
            params.subject_alt_names.push(SanType::URI(uri.try_into().map_err(Error::Certificate)?));
        }
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().map_err(Error::Certificate)?;
        let signed = params.signed_by(&key, &self.issuer).map_err(Error::Certificate)?;
        let file = |kind| self.folder.join(format!("{name}.{kind}"));
        let issued = Issued { certificate: file("pem"), key: file("key") };
        write(&issued.certificate, &signed.pem())?;
        write(&issued.key, &key.serialize_pem())?;
        Ok(issued)
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::io("cannot write", path))
}
