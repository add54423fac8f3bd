//! Who the holder of a certificate is.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The alternative names of a client's certificate: URIs, such as SPIFFE's, and DNS names. Clones are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientNames(Arc<[String]>);

impl ClientNames {
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let names = certificate.valid_uri_names().chain(certificate.valid_dns_names());
        Some(Self(names.map(str::to_owned).collect()))
    }

    /// Whether a name is among them.
    #[must_use]
    pub fn contain(&self, name: &str) -> bool {
        self.0.iter().any(|own| own == name)
    }
}
