//! The side that accepts.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    client::verify_server_name,
    pki_types::{CertificateDer, ServerName},
    server::{
        ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::{Made, OfFiles, Stream, TlsError, pem, provider};

/// How long a client may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How connections are taken over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// Certificates with their keys. The first that has the name which a client asks for is shown, or the first of all.
    pub certificates: Vec<Certificate>,
    /// A file of certificate authorities that may vouch for clients. Default: none, clients show no certificate.
    pub client_ca: Option<PathBuf>,
    /// Whether clients must show a certificate: `required` (the default) or `optional`. Goes with `client_ca`.
    pub client_certificates: ClientCertificates,
    /// The oldest version: `1.2` (the default) or `1.3`.
    pub min_version: Version,
}

/// A certificate with its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// A file with the certificate, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// A file with its key.
    pub key: PathBuf,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// Without one there is no connection.
    #[default]
    Required,
    /// One that is shown must be good.
    Optional,
}

/// The oldest version of TLS that is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// TLS 1.2, with forward secrecy and authenticated encryption only.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

static FROM_1_2: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static FROM_1_3: [&SupportedProtocolVersion; 1] = [&TLS13];

impl Version {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::V12 => &FROM_1_2,
            Self::V13 => &FROM_1_3,
        }
    }
}

impl Server {
    /// What is wrong with it, its files included.
    ///
    /// # Errors
    /// The first problem.
    pub fn check(&self) -> Result<(), TlsError> {
        self.make().map(drop)
    }

    fn verifier(&self) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
        let Some(path) = &self.client_ca else { return Ok(None) };
        let roots: Arc<RootCertStore> = Arc::new(pem::authorities(path)?);
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
        let builder = match self.client_certificates {
            ClientCertificates::Required => builder,
            ClientCertificates::Optional => builder.allow_unauthenticated(),
        };
        builder.build().map(Some).map_err(|error| TlsError::file(path, &error))
    }
}

impl OfFiles for Server {
    type Made = ServerConfig;

    fn files(&self) -> Vec<&Path> {
        let certificates = self.certificates.iter();
        let files = certificates.flat_map(|pair| [pair.certificate.as_path(), pair.key.as_path()]);
        files.chain(self.client_ca.as_deref()).collect()
    }

    fn make(&self) -> Result<ServerConfig, TlsError> {
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(self.min_version.versions())?;
        let builder = match self.verifier()? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let load = |pair: &Certificate| {
            let (chain, key) = (pem::chain(&pair.certificate)?, pem::key(&pair.key)?);
            let key = CertifiedKey::from_der(chain, key, &provider);
            key.map(Arc::new).map_err(|error| TlsError::file(&pair.certificate, &error))
        };
        let certificates = self.certificates.iter().map(load).collect::<Result<Vec<_>, TlsError>>()?;
        if certificates.is_empty() {
            return Err(TlsError::Unusable("at least one certificate is needed".to_owned()));
        }
        let mut config = builder.with_cert_resolver(Arc::new(ByName(certificates)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if self.client_ca.is_some() {
            // A session that is resumed is not verified again: not even whether its certificate has expired since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }
}

/// Shows the first certificate that has the name asked for.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let has_name = |key: &&Arc<CertifiedKey>| {
            asked.as_ref().is_some_and(|name| key.cert.first().is_some_and(|cert| is_for(cert, name)))
        };
        let only = self.0.len() == 1;
        let named = if only { None } else { self.0.iter().find(has_name) };
        named.or_else(|| self.0.first()).map(Arc::clone)
    }
}

fn is_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    ParsedCertificate::try_from(certificate).is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

/// Takes connections over TLS.
pub struct ServerTls(Made<Server>);

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the files. Whether they can be used is for [`Server::check`]; until they can, nothing is taken.
    #[must_use]
    pub fn new(settings: Server) -> Self {
        Self(Made::new(settings))
    }

    /// Reads the files again if they have changed. Returns whether others are in force.
    ///
    /// # Errors
    /// Why those that are there now cannot be used: what was read before stays in force.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        self.0.refresh()
    }

    /// Secures a connection that a client has made.
    ///
    /// # Errors
    /// When the client does not come to an agreement, or not in time.
    pub async fn secure(&self, stream: TcpStream) -> io::Result<Stream> {
        let config = self.0.get().map_err(io::Error::other)?;
        let handshake = TlsAcceptor::from(config).accept(stream);
        let stream = timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(Stream::secured(stream))
    }
}

impl Stream {
    /// Whether both sides have agreed on HTTP/2; `None` for a connection that has agreed on nothing.
    #[must_use]
    pub fn agreed_on_http2(&self) -> Option<bool> {
        match self {
            Self::Plain(_) => None,
            // Over TLS a client that says nothing speaks HTTP/1.1 (RFC 9113 §3.2).
            Self::Tls(stream) => Some(stream.get_ref().1.alpn_protocol() == Some(b"h2")),
        }
    }
}
