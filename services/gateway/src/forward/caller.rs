//! Who calls, and what backends over HTTP are told of it.
//!
//! What a client says of itself counts only if it is a proxy that the configuration trusts; from anybody else those
//! headers are an attempt to be somebody else, and go.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// All that proxies say of a client, in the ways of many of them.
const SAID: [HeaderName; 8] = [
    FOR,
    PROTO,
    HOST,
    REAL_IP,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-server"),
    header::FORWARDED,
];

/// The other end of a client's connection. Clones are the same.
#[derive(Clone)]
pub(crate) struct Caller {
    /// Its address.
    pub(crate) address: IpAddr,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// What counts its connection for as long as this lives.
    pub(crate) _counted: Arc<dyn Send + Sync>,
}

/// Tells a backend who calls for which host, after the proxies before this one.
pub(super) fn introduce(headers: &mut HeaderMap, caller: &Caller, host: &str, trusted: &[IpNet]) {
    let address = caller.address.to_canonical();
    if !trusted.iter().any(|network| network.contains(&address)) {
        for name in &SAID {
            headers.remove(name);
        }
    }
    append(headers, FOR, &address.to_string());
    append(headers, header::FORWARDED, &forwarded(address, host, caller.scheme));
    if let Ok(host) = HeaderValue::try_from(host) {
        headers.entry(HOST).or_insert(host);
    }
    headers.entry(PROTO).or_insert(HeaderValue::from_static(caller.scheme));
    if let Some(client) = client(headers, trusted).and_then(|client| client.to_string().try_into().ok()) {
        headers.insert(REAL_IP, client);
    }
}

/// One proxy's element of `Forwarded` (RFC 7239 §4).
fn forwarded(address: IpAddr, host: &str, scheme: &str) -> String {
    let node = match address {
        IpAddr::V4(address) => format!("for={address}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\""),
    };
    // Whoever puts quotes into a host does not get them out of the quotes here.
    let quotable = host.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    if quotable { format!("{node};host=\"{host}\";proto={scheme}") } else { format!("{node};proto={scheme}") }
}

/// The last address in the chain that no trusted proxy has.
fn client(headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let chain = headers.get(FOR)?.to_str().ok()?;
    let mut first = None;
    for address in chain.rsplit(',') {
        // What comes before something that is no address was said by who knows whom.
        let Ok(address) = address.trim().parse::<IpAddr>() else { break };
        first = Some(address);
        if !trusted.iter().any(|network| network.contains(&address)) {
            break;
        }
    }
    first
}

/// Adds an element to a list that may stand in several lines, which become one.
fn append(headers: &mut HeaderMap, name: HeaderName, element: &str) {
    let before: Vec<_> = headers.get_all(&name).iter().filter_map(|value| value.to_str().ok()).collect();
    let list = before.into_iter().chain([element]).collect::<Vec<_>>().join(", ");
    if let Ok(list) = HeaderValue::try_from(list) {
        headers.insert(name, list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(said: &[(&'static str, &str)], address: &str, host: &str, trusted: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in said {
            headers.append(*name, value.parse().unwrap());
        }
        let caller = Caller { address: address.parse().unwrap(), scheme: "https", _counted: Arc::new(()) };
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        introduce(&mut headers, &caller, host, &trusted);
        headers
    }

    #[test]
    fn what_a_client_says_of_itself_does_not_count() {
        let lies = [
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "admin"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
        ];
        let headers = told(&lies, "192.0.2.7", "chat.example", &["10.0.0.0/8"]);
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "chat.example");
        assert_eq!(headers["x-real-ip"], "192.0.2.7");
        assert_eq!(headers["forwarded"], "for=192.0.2.7;host=\"chat.example\";proto=https");
        assert_eq!(headers.len(), 5);
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept_and_the_client_is_the_last_untrusted() {
        let said = [
            ("x-forwarded-for", "203.0.113.9, 198.51.100.4"),
            ("x-forwarded-for", "10.1.1.1"),
            ("x-forwarded-proto", "http"),
            ("forwarded", "for=198.51.100.4"),
        ];
        let headers = told(&said, "::ffff:10.0.0.2", "x:1", &["10.0.0.0/8"]);
        assert_eq!(headers["x-forwarded-for"], "203.0.113.9, 198.51.100.4, 10.1.1.1, 10.0.0.2");
        assert_eq!(headers["x-real-ip"], "198.51.100.4", "what stands before it may be a lie");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["forwarded"], "for=198.51.100.4, for=10.0.0.2;host=\"x:1\";proto=https");
        let headers = told(&[("x-forwarded-for", "unknown, 10.1.1.1")], "10.0.0.2", "x", &["10.0.0.0/8"]);
        assert_eq!(headers["x-real-ip"], "10.1.1.1");
    }

    #[test]
    fn an_address_of_version_six_and_a_strange_host_are_quoted_or_left_out() {
        let headers = told(&[], "2001:db8::1", "a\"b", &[]);
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::1]\";proto=https");
        assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
    }
}
