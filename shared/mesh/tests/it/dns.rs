//! Names: answers that change, fail, shrink and grow.

use std::{net::IpAddr, time::Duration};

use weft_mesh::discovery::Sources;
use weft_testkit::{DnsFailure, DnsServer, eventually};

use crate::{Fixture, SOON, sources};

const HOUR: u32 = 3600;

fn named(dns: &DnsServer, target: &str) -> Sources {
    Sources { nameservers: vec![dns.address()], ..sources(&[target.to_owned()]) }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_name_stands_for_all_its_addresses_as_long_as_their_ttl_says() {
    let dns = DnsServer::start().await.unwrap();
    dns.set_addresses("web.test", &ips(&["10.0.0.1", "10.0.0.2"]), 1);
    let fixture = Fixture::found(named(&dns, "web.test:80"));
    fixture.until_addresses(&["10.0.0.1:80", "10.0.0.2:80"]).await;
    let kept = fixture.pool.backends.get("10.0.0.2:80").unwrap();

    dns.set_addresses("web.test", &ips(&["10.0.0.2", "10.0.0.3", "::1"]), 1);
    fixture.until_addresses(&["10.0.0.2:80", "10.0.0.3:80", "[::1]:80"]).await;
    assert!(std::sync::Arc::ptr_eq(&kept, &fixture.pool.backends.get("10.0.0.2:80").unwrap()));

    dns.set_addresses("web.test", &ips(&["10.0.0.2"]), HOUR);
    fixture.until_addresses(&["10.0.0.2:80"]).await;
    let asked = dns.queries("web.test");
    dns.set_addresses("web.test", &ips(&["10.0.0.4"]), HOUR);
    assert_eq!((fixture.addresses().len(), dns.queries("web.test")), (1, asked));
}

#[tokio::test]
async fn no_answer_is_believed_longer_than_the_refresh() {
    let dns = DnsServer::start().await.unwrap();
    dns.set_addresses("web.test", &ips(&["10.0.0.1"]), HOUR);
    let refresh = Duration::from_millis(50);
    let fixture = Fixture::found(Sources { refresh, ..named(&dns, "web.test:80") });
    fixture.until_addresses(&["10.0.0.1:80"]).await;
    dns.set_addresses("web.test", &ips(&["10.0.0.2"]), HOUR);
    fixture.until_addresses(&["10.0.0.2:80"]).await;
}

#[tokio::test]
async fn a_failed_or_empty_answer_keeps_what_was_known() {
    let dns = DnsServer::start().await.unwrap();
    dns.set_addresses("web.test", &ips(&["10.0.0.1", "::1"]), HOUR);
    let refresh = Duration::from_millis(50);
    let fixture = Fixture::found(Sources { refresh, ..named(&dns, "web.test:80") });
    let known = ["10.0.0.1:80", "[::1]:80"];
    fixture.until_addresses(&known).await;
    let fails = |expected: &'static str| {
        let discovery = fixture.discovery.clone();
        eventually(SOON, move || {
            let error = discovery.error();
            async move { error.contains(expected) }
        })
    };
    dns.fail("web.test", DnsFailure::Unknown);
    fails("Non-Existent Domain").await;
    dns.fail("web.test", DnsFailure::Broken);
    fails("Server Failure").await;
    dns.set_addresses("web.test", &[], HOUR);
    fails("No Error").await;
    dns.fail("web.test", DnsFailure::Silent);
    fails("timed out").await;
    assert_eq!(fixture.addresses(), known);

    dns.set_addresses("web.test", &ips(&["10.0.0.2"]), HOUR);
    fixture.until_addresses(&["10.0.0.2:80"]).await;
    assert_eq!(fixture.discovery.error(), "");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_at_the_start_is_found_later() {
    let dns = DnsServer::start().await.unwrap();
    let fixture = Fixture::found(named(&dns, "late.test:80"));
    eventually(SOON, || async { fixture.discovery.error().starts_with("late.test:80: no A record") }).await;
    assert!(fixture.addresses().is_empty());
    dns.set_addresses("late.test", &ips(&["10.0.0.1"]), HOUR);
    fixture.until_addresses(&["10.0.0.1:80"]).await;
}

#[tokio::test]
async fn a_backend_that_fails_is_looked_up_at_once() {
    let dns = DnsServer::start().await.unwrap();
    dns.set_addresses("web.test", &ips(&["10.0.0.1"]), HOUR);
    let fixture = Fixture::found(named(&dns, "web.test:80"));
    fixture.until_addresses(&["10.0.0.1:80"]).await;
    dns.set_addresses("web.test", &ips(&["10.0.0.2"]), HOUR);
    let gone = fixture.pool.backends.list()[0].clone();
    gone.mark_down("connection refused", std::time::Instant::now());
    fixture.pool.changed();
    fixture.until_addresses(&["10.0.0.2:80"]).await;
    assert_eq!(dns.queries("web.test"), 4, "A and AAAA, twice");
}

#[tokio::test]
async fn a_service_brings_ports_weights_and_priorities() {
    let dns = DnsServer::start().await.unwrap();
    let service = "_grpc._tcp.web.test";
    dns.set_addresses("one.test", &ips(&["10.0.0.1"]), HOUR);
    dns.set_addresses("two.test", &ips(&["10.0.0.2", "::2"]), HOUR);
    dns.set_services(
        service,
        &[(0, 10, 81, "one.test"), (0, 20, 82, "two.test"), (0, 5, 83, "gone.test")],
        1,
    );
    let fixture = Fixture::found(named(&dns, "srv:_grpc._tcp.web.test"));
    let list = |list: &[(&str, u32)]| list.iter().map(|(a, w)| ((*a).to_owned(), *w)).collect::<Vec<_>>();
    let first = list(&[("10.0.0.1:81", 10), ("10.0.0.2:82", 20), ("[::2]:82", 20)]);
    eventually(SOON, || async { fixture.list() == first }).await;

    dns.set_services(service, &[(7, 0, 81, "one.test"), (0, 40_000, 84, "one.test")], 1);
    let second = list(&[("10.0.0.1:81", 1), ("10.0.0.1:84", 1000)]);
    eventually(SOON, || async { fixture.list() == second }).await;
    let tier = |address| fixture.pool.backends.get(address).unwrap().tier();
    assert_eq!((tier("10.0.0.1:81"), tier("10.0.0.1:84")), (1, 0));

    dns.set_services(service, &[(0, 1, 80, ".")], 1);
    eventually(SOON, || async { fixture.discovery.error().contains("not offered") }).await;
    assert_eq!(fixture.list(), second);
}

#[tokio::test]
async fn a_service_whose_host_cannot_be_asked_for_keeps_what_was_known() {
    let dns = DnsServer::start().await.unwrap();
    let service = "_grpc._tcp.web.test";
    dns.set_addresses("one.test", &ips(&["10.0.0.1"]), 1);
    dns.set_addresses("two.test", &ips(&["10.0.0.2"]), 1);
    dns.set_services(service, &[(0, 1, 80, "one.test"), (0, 1, 80, "two.test")], HOUR);
    let fixture = Fixture::found(named(&dns, "srv:_grpc._tcp.web.test"));
    fixture.until_addresses(&["10.0.0.1:80", "10.0.0.2:80"]).await;
    dns.fail("one.test", DnsFailure::Broken);
    eventually(SOON, || async { fixture.discovery.error().contains("one.test") }).await;
    assert_eq!(fixture.addresses(), ["10.0.0.1:80", "10.0.0.2:80"]);
}

#[tokio::test]
async fn localhost_needs_no_server() {
    let fixture = Fixture::found(sources(&["localhost:80".to_owned()]));
    eventually(SOON, || async { fixture.addresses().contains(&"127.0.0.1:80".to_owned()) }).await;
}
