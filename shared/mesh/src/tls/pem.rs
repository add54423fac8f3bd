//! What stands in PEM files.

use std::path::Path;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::TlsError;

/// A chain, the certificate itself first.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| TlsError::file(path, &error))?;
    let chain = certificates.collect::<Result<Vec<_>, _>>().map_err(|error| TlsError::file(path, &error))?;
    if chain.is_empty() { Err(TlsError::file(path, &"holds no certificate")) } else { Ok(chain) }
}

/// A private key.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::file(path, &error))
}

/// Certificate authorities.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots.add(certificate).map_err(|error| TlsError::file(path, &error))?;
    }
    Ok(roots)
}
