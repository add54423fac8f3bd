//! Connections over TLS on both sides: who is trusted, what is shown, and files that change.

use std::{fs, io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use weft_gateway::{Config, HealthKind, Listener};
use weft_mesh::{
    error::ErrorKind,
    tls::{self, ClientCertificates},
};
use weft_proto::gateway::v1::Health;
use weft_runtime::Running;
use weft_testkit::{Authority, Issued, eventually};

use crate::{
    backend::TestBackend,
    client::{Client, http_over},
    config, started,
};

const SOON: Duration = Duration::from_secs(10);

pub(crate) fn server(issued: &[&Issued]) -> tls::Server {
    let pair = |issued: &&Issued| tls::Certificate {
        certificate: issued.certificate.clone(),
        key: issued.key.clone(),
    };
    tls::Server { certificates: issued.iter().map(pair).collect(), ..tls::Server::default() }
}

/// A gateway that is connected to over TLS, before a backend that is not.
async fn before(backend: &TestBackend, tls: tls::Server, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = config(&[backend.address], &[backend.address], HealthKind::Tcp);
    config.listeners = vec![Listener { tls: Some(tls), ..Listener::at("127.0.0.1:0") }];
    config.reload.interval = Duration::from_millis(20);
    change(&mut config);
    started(config).await
}

/// Connects as a client that trusts an authority and shows a certificate if it has one.
pub(crate) async fn connect(
    address: SocketAddr,
    trusted: &Authority,
    (name, protocol): (&'static str, &'static [u8]),
    shown: Option<&Issued>,
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&trusted.certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match shown {
        Some(issued) => {
            let chain = vec![CertificateDer::from_pem_file(&issued.certificate).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&issued.key).unwrap()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), stream).await
}

const H1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";
const GET: &str = "GET /web/Headers HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// The certificate that the gateway shows for a name.
async fn shown(gateway: &Running, trusted: &Authority, name: &'static str) -> Option<Vec<u8>> {
    let stream = connect(gateway.address, trusted, (name, H1), None).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

fn der(issued: &Issued) -> Vec<u8> {
    CertificateDer::from_pem_file(&issued.certificate).unwrap().to_vec()
}

#[tokio::test]
async fn both_protocols_are_served_and_the_name_asked_for_chooses_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let first = authority.issue("first", &["chat.example", "127.0.0.1"]).unwrap();
    let second = authority.issue("second", &["*.api.example"]).unwrap();
    let backend = TestBackend::start().await;
    let gateway = before(&backend, server(&[&first, &second]), |_| {}).await;

    let stream = connect(gateway.address, &authority, ("chat.example", H2), None).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(H2));
    Client::over(stream).await.unary("Echo", b"x", &[]).await.unwrap();
    let stream = connect(gateway.address, &authority, ("chat.example", H1), None).await.unwrap();
    let answer = http_over(stream, GET).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"x-forwarded-proto\": \"https\""), "{answer}");

    assert_eq!(shown(&gateway, &authority, "chat.example").await, Some(der(&first)));
    assert_eq!(shown(&gateway, &authority, "v1.api.example").await, Some(der(&second)));
    assert_eq!(shown(&gateway, &authority, "127.0.0.1").await, Some(der(&first)), "without a name the first");
    assert_eq!(shown(&gateway, &authority, "other.example").await, None, "it is not for that name");
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_without_a_certificate_that_is_vouched_for_gets_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let stranger = Authority::new(folder.path(), "stranger").unwrap();
    let own = authority.issue("own", &["chat.example"]).unwrap();
    let good = authority.issue("good", &["client"]).unwrap();
    let bad = stranger.issue("bad", &["client"]).unwrap();
    let backend = TestBackend::start().await;
    let mut tls = tls::Server { client_ca: Some(authority.certificate.clone()), ..server(&[&own]) };
    for optional in [false, true] {
        if optional {
            tls.client_certificates = ClientCertificates::Optional;
        }
        let gateway = before(&backend, tls.clone(), |_| {}).await;
        let asked = async |shown: Option<&Issued>| {
            // In TLS 1.3 a refusal comes after the client believes that it is connected.
            let stream = connect(gateway.address, &authority, ("chat.example", H1), shown).await;
            let Ok(mut stream) = stream else { return false };
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut answer = Vec::new();
            let _ = stream.write_all(GET.as_bytes()).await;
            let _ = stream.read_to_end(&mut answer).await;
            answer.starts_with(b"HTTP/1.1 200")
        };
        assert!(asked(Some(&good)).await);
        assert!(!asked(Some(&bad)).await);
        assert_eq!(asked(None).await, optional);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn backends_are_connected_to_and_checked_over_tls_with_a_certificate_of_our_own() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let own = authority.issue("backend", &["backend.internal"]).unwrap();
    let shown = authority.issue("gateway", &["gateway"]).unwrap();
    let secured = tls::Server { client_ca: Some(authority.certificate.clone()), ..server(&[&own]) };
    let backends =
        [TestBackend::start_secured(secured.clone()).await, TestBackend::start_secured(secured).await];
    let towards = tls::Client {
        ca: Some(authority.certificate.clone()),
        server_name: Some("backend.internal".into()),
        certificate: Some(shown.certificate),
        key: Some(shown.key),
    };
    let mut config = config(&[backends[0].address], &[backends[1].address], HealthKind::Grpc);
    config.pools[1].health.kind = Some(HealthKind::Http);
    config.pools.iter_mut().for_each(|pool| pool.tls = Some(towards.clone()));
    let gateway = started(config).await;
    let healthy = || async {
        let of = |pool| crate::health::health(&gateway, pool);
        of("echo").await == [Health::Healthy] && of("web").await == [Health::Healthy]
    };
    eventually(SOON, healthy).await;
    let client = Client::connect(gateway.address).await;
    assert_eq!(client.unary("Echo", b"x", &[]).await.unwrap().0, "x");
    let answer = crate::client::http(gateway.address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_backend_has_the_name_that_it_was_found_by() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let own = authority.issue("backend", &["localhost"]).unwrap();
    let backend = TestBackend::start_secured(server(&[&own])).await;
    let mut config = config(&[backend.address], &[], HealthKind::Grpc);
    config.pools[0].backends[0].address = format!("localhost:{}", backend.address.port());
    config.pools[0].tls = Some(tls::Client { ca: Some(authority.certificate), ..tls::Client::default() });
    let gateway = started(config).await;
    let client = Client::connect(gateway.address).await;
    assert_eq!(client.unary("Echo", b"x", &[]).await.unwrap().0, "x");
    gateway.stop().await;
}

#[tokio::test]
async fn a_backend_that_nobody_vouches_for_or_of_another_name_gets_no_call() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let stranger = Authority::new(folder.path(), "stranger").unwrap();
    for (issuer, name) in [(&stranger, "127.0.0.1"), (&authority, "other.internal")] {
        let backend = TestBackend::start_secured(server(&[&issuer.issue("backend", &[name]).unwrap()])).await;
        let mut config = config(&[backend.address], &[], HealthKind::Grpc);
        config.pools[0].tls =
            Some(tls::Client { ca: Some(authority.certificate.clone()), ..tls::Client::default() });
        let gateway = started(config).await;
        let client = Client::connect(gateway.address).await;
        let error = client.unary("Echo", b"x", &[]).await.unwrap_err();
        assert_eq!((error.kind, error.reason.as_str()), (ErrorKind::Unavailable, "NO_HEALTHY_BACKENDS"));
        assert_eq!(backend.calls(), 0);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn files_that_change_are_in_force_for_new_connections_and_broken_ones_never() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let before_change = der(&authority.issue("own", &["chat.example"]).unwrap());
    let own = Issued { certificate: folder.path().join("own.pem"), key: folder.path().join("own.key") };
    let backend = TestBackend::start().await;
    let gateway = before(&backend, server(&[&own]), |_| {}).await;
    let open =
        Client::over(connect(gateway.address, &authority, ("chat.example", H2), None).await.unwrap()).await;
    open.unary("Echo", b"x", &[]).await.unwrap();
    let now = || shown(&gateway, &authority, "chat.example");
    assert_eq!(now().await, Some(before_change.clone()));

    fs::write(&own.certificate, "no certificate").unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(now().await, Some(before_change.clone()));
    // A certificate without its key is as bad: they are seldom written in one step.
    let other = authority.issue("other", &["chat.example"]).unwrap();
    fs::copy(&other.certificate, &own.certificate).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(now().await, Some(before_change));
    fs::copy(&other.key, &own.key).unwrap();
    eventually(SOON, || async { now().await == Some(der(&other)) }).await;
    open.unary("Echo", b"x", &[]).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn certificates_are_renewed_under_load_without_a_failed_call() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let own = authority.issue("own", &["chat.example"]).unwrap();
    let inner = authority.issue("inner", &["127.0.0.1"]).unwrap();
    let backend = TestBackend::start_secured(server(&[&inner])).await;
    let towards = tls::Client { ca: Some(authority.certificate.clone()), ..tls::Client::default() };
    let gateway = before(&backend, server(&[&own]), |config| config.pools[0].tls = Some(towards)).await;
    for round in 0..10 {
        let next = authority.issue("next", &["chat.example"]).unwrap();
        fs::copy(&next.certificate, &own.certificate).unwrap();
        let renewed = || async { shown(&gateway, &authority, "chat.example").await == Some(der(&own)) };
        // Every connection finds a pair that goes together, whatever lies in the files at that moment.
        let calls = async {
            for i in 0..20 {
                if i == 10 {
                    fs::copy(&next.key, &own.key).unwrap();
                }
                let stream = connect(gateway.address, &authority, ("chat.example", H2), None).await.unwrap();
                Client::over(stream).await.unary("Echo", b"x", &[]).await.unwrap();
            }
        };
        tokio::join!(calls, eventually(SOON, renewed));
        assert!(backend.calls() >= 20 * (round + 1));
    }
    gateway.stop().await;
}
