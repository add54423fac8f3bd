//! The side that connects.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{Made, OfFiles, Stream, TlsError, pem, provider};

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// How backends are connected to over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Client {
    /// A file of certificate authorities that may vouch for a backend. Default: those of the system.
    pub ca: Option<PathBuf>,
    /// The name that a backend's certificate must have. Default: the host of its address.
    pub server_name: Option<String>,
    /// The certificate to show, with those between it and its authority. Default: none.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

impl Client {
    /// What is wrong with it, its files included.
    ///
    /// # Errors
    /// The first problem.
    pub fn check(&self) -> Result<(), TlsError> {
        if let Some(name) = &self.server_name {
            parse(name).map_err(|error| TlsError::Unusable(error.to_string()))?;
        }
        self.make().map(drop)
    }
}

impl OfFiles for Client {
    type Made = ClientConfig;

    fn files(&self) -> Vec<&Path> {
        [&self.ca, &self.certificate, &self.key].into_iter().filter_map(|path| path.as_deref()).collect()
    }

    fn make(&self) -> Result<ClientConfig, TlsError> {
        let roots = match &self.ca {
            Some(path) => pem::authorities(path)?,
            None => system()?,
        };
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = builder.with_root_certificates(roots);
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                Ok(builder.with_client_auth_cert(pem::chain(certificate)?, pem::key(key)?)?)
            }
            (None, None) => Ok(builder.with_no_client_auth()),
            _ => Err(TlsError::Unusable("certificate and key go together".to_owned())),
        }
    }
}

fn system() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    // Stores have certificates that nothing can read; what is left is what counts.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(TlsError::NoRoots) } else { Ok(roots) }
}

fn parse(name: &str) -> io::Result<ServerName<'static>> {
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let invalid =
        || io::Error::new(io::ErrorKind::InvalidInput, format!("\"{name}\" is no name of a server"));
    ServerName::try_from(name.to_owned()).map_err(|_| invalid())
}

/// Connects over TLS.
pub struct ClientTls {
    made: Made<Client>,
    name: Option<String>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Of the same files.
impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        self.made.settings == other.made.settings
    }
}

impl ClientTls {
    /// Reads the files. Whether they can be used is for [`Client::check`]; until they can, nothing connects.
    #[must_use]
    pub fn new(settings: Client) -> Self {
        let name = settings.server_name.clone();
        Self { made: Made::new(settings), name }
    }

    /// Reads the files again if they have changed. Returns whether others are in force.
    ///
    /// # Errors
    /// Why those that are there now cannot be used: what was read before stays in force.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        self.made.refresh()
    }

    /// Secures a connection to a host. `protocol` is its name in ALPN; the peer has to agree to `h2`, and may be
    /// silent on anything else.
    pub(crate) async fn secure(
        &self,
        stream: TcpStream,
        host: &str,
        protocol: &'static [u8],
    ) -> io::Result<Stream> {
        let config = self.made.get().map_err(io::Error::other)?;
        let mut config = ClientConfig::clone(&config);
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = parse(self.name.as_deref().unwrap_or(host))?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no TLS within {HANDSHAKE_TIMEOUT:?}"));
        let stream = timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| late())??;
        if protocol == b"h2" && stream.get_ref().1.alpn_protocol() != Some(protocol) {
            return Err(io::Error::other("it does not speak HTTP/2 over TLS"));
        }
        Ok(Stream::secured(stream))
    }
}
