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
const SAID: [&str; 16] = [
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-url-scheme",
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

/// Removes what a caller says of a client, unless it is trusted.
pub(super) fn forget_lies(headers: &mut HeaderMap, caller: &Caller, trusted: &[IpNet]) {
    if !headers.keys().any(is_said) || is_trusted(caller, trusted) {
        return;
    }
    let lies: Vec<HeaderName> = headers.keys().filter(|name| is_said(name)).cloned().collect();
    for name in lies {
        headers.remove(name);
    }
}

/// Servers that hand headers on as variables (CGI, WSGI) see no difference between `_` and `-`.
fn is_said(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.as_bytes().first() {
        Some(b'x' | b'f' | b't') if name.contains('_') => SAID.contains(&name.replace('_', "-").as_str()),
        Some(b'x' | b'f' | b't') => SAID.contains(&name),
        _ => false,
    }
}

fn is_trusted(caller: &Caller, trusted: &[IpNet]) -> bool {
    let address = caller.address.to_canonical();
    trusted.iter().any(|network| network.contains(&address))
}

/// Over what a client asks: what a trusted proxy says, else what it is here.
pub(super) fn scheme<'a>(headers: &'a HeaderMap, caller: &Caller, trusted: &[IpNet]) -> &'a str {
    let said = headers.get(PROTO).filter(|_| is_trusted(caller, trusted)).and_then(|said| said.to_str().ok());
    said.filter(|said| matches!(*said, "http" | "https")).unwrap_or(caller.scheme)
}

/// Tells a backend who calls for which host, after the proxies before this one.
pub(super) fn introduce(headers: &mut HeaderMap, caller: &Caller, host: &str, trusted: &[IpNet]) {
    let address = caller.address.to_canonical();
    append(headers, FOR, &address.to_string());
    append(headers, header::FORWARDED, &forwarded(address, host, caller.scheme));
    if let Ok(host) = HeaderValue::try_from(host) {
        headers.entry(HOST).or_insert(host);
    }
    headers.entry(PROTO).or_insert(HeaderValue::from_static(caller.scheme));
    if let Some(client) =
        first_untrusted(headers, trusted).and_then(|client| client.to_string().try_into().ok())
    {
        headers.insert(REAL_IP, client);
    }
}

/// The client behind a caller: the last address in what trusted proxies say that is none of them.
pub(super) fn client(headers: &HeaderMap, caller: &Caller, trusted: &[IpNet]) -> IpAddr {
    let address = caller.address.to_canonical();
    if is_trusted(caller, trusted) { first_untrusted(headers, trusted).unwrap_or(address) } else { address }
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

/// The last address in the chain that no trusted proxy has. What comes before something that is no address was said by
/// who knows whom.
fn first_untrusted(headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut first = None;
    let lines = headers.get_all(FOR).iter().rev();
    for address in lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',')) {
        let Ok(address) = address.trim().parse::<IpAddr>() else { return first };
        let address = address.to_canonical();
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
        forget_lies(&mut headers, &caller, &trusted);
        introduce(&mut headers, &caller, host, &trusted);
        headers
    }

    #[test]
    fn a_client_is_found_behind_proxies_that_add_lines_of_their_own() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "1.2.3.4".parse().unwrap());
        headers.append("x-forwarded-for", "203.0.113.9, ::ffff:10.1.1.1".parse().unwrap());
        let caller = |address: &str| Caller {
            address: address.parse().unwrap(),
            scheme: "http",
            _counted: Arc::new(()),
        };
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        assert_eq!(client(&headers, &caller("10.0.0.2"), &trusted).to_string(), "203.0.113.9");
        assert_eq!(client(&headers, &caller("192.0.2.1"), &trusted).to_string(), "192.0.2.1");
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        assert_eq!(scheme(&headers, &caller("10.0.0.2"), &trusted), "https");
        assert_eq!(scheme(&headers, &caller("192.0.2.1"), &trusted), "http");
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
            ("x_forwarded_for", "10.0.0.1"),
            ("x_real-ip", "10.0.0.1"),
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
