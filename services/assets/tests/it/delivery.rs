//! HTTP delivery: the policy table, conditions, ranges and encodings, on every backend.

use reqwest::{Method, Response, header::HeaderMap};
use weft_proto::assets::v1 as pb;

use crate::{
    on_every_backend,
    rig::{Rig, acting_for, public, sample},
};

on_every_backend!(the_policy_table);
on_every_backend!(each_encoding_is_a_representation_of_its_own);
on_every_backend!(conditions);
on_every_backend!(ranges);
on_every_backend!(what_is_private_does_not_exist);
on_every_backend!(a_stable_url_gives_the_newest);
on_every_backend!(errors_are_json_and_never_stored);
on_every_backend!(names_are_percent_encoded);

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

async fn headers(rig: &Rig, path: &str) -> HeaderMap {
    let response = rig.get(path).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    response.headers().clone()
}

async fn the_policy_table(rig: Rig) {
    const YEAR: &str = "public, max-age=31536000, immutable";
    const HOUR: &str = "public, max-age=3600";
    let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>";
    for (name, data, hash, stable, content_type, sandbox, vary) in [
        ("site.css", sample("site.css"), YEAR, HOUR, "text/css; charset=utf-8", "", "Accept-Encoding"),
        ("todo.js", sample("todo.js"), YEAR, HOUR, "text/javascript; charset=utf-8", "", "Accept-Encoding"),
        ("chart.png", sample("chart.png"), YEAR, HOUR, "image/png", "", ""),
        ("grey.jpg", sample("grey.jpg"), YEAR, HOUR, "image/jpeg", "", ""),
        (
            "data.json",
            b"{\"a\": [1, 2, 3]}".to_vec(),
            "no-cache",
            "no-cache",
            "application/json",
            "",
            "Accept-Encoding",
        ),
        (
            "page.html",
            b"<!doctype html><p>hi".to_vec(),
            YEAR,
            HOUR,
            "text/html; charset=utf-8",
            "sandbox",
            "Accept-Encoding",
        ),
        ("logo.svg", svg.to_vec(), YEAR, HOUR, "image/svg+xml", "sandbox", "Accept-Encoding"),
    ] {
        let asset = rig.public(name, &data).await;
        let urls = rig.urls(&asset.id).await.unwrap();
        assert_eq!(urls.url, format!("/assets/{}/{name}", asset.id));
        assert_eq!(urls.stable_url, format!("/files/local/{name}"));
        for (url, policy) in [(&urls.url, hash), (&urls.stable_url, stable)] {
            let headers = headers(&rig, url).await;
            assert_eq!(text(&headers, "cache-control"), policy, "{url}");
            assert_eq!(text(&headers, "content-type"), content_type, "{url}");
            assert_eq!(text(&headers, "content-security-policy"), sandbox, "{url}");
            assert_eq!(text(&headers, "vary"), vary, "{url}");
            assert_eq!(text(&headers, "x-content-type-options"), "nosniff");
            assert_eq!(text(&headers, "accept-ranges"), "bytes");
            assert!(text(&headers, "etag").starts_with('"') && text(&headers, "etag").len() == 34);
            httpdate::parse_http_date(text(&headers, "date")).unwrap();
            httpdate::parse_http_date(text(&headers, "last-modified")).unwrap();
            assert!(text(&headers, "content-length").parse::<u64>().unwrap() <= data.len() as u64);
        }
    }
}

async fn each_encoding_is_a_representation_of_its_own(rig: Rig) {
    let asset = rig.public("todo.js", &sample("todo.js")).await;
    let url = rig.urls(&asset.id).await.unwrap().url;
    let plain = rig.get(&url).send().await.unwrap();
    assert!(plain.headers().get("content-encoding").is_none());
    let plain = plain.bytes().await.unwrap();
    let mut etags = std::collections::BTreeSet::new();
    for (accept, expected) in [
        ("gzip, deflate, br, zstd", "br"),
        ("zstd, gzip", "zstd"),
        ("gzip;q=0.3, br;q=0", "gzip"),
        ("identity", ""),
    ] {
        let response = rig.get(&url).header("accept-encoding", accept).send().await.unwrap();
        let headers = response.headers().clone();
        assert_eq!(text(&headers, "content-encoding"), expected, "{accept}");
        assert_eq!(text(&headers, "vary"), "Accept-Encoding");
        etags.insert(text(&headers, "etag").to_owned());
        let bytes = response.bytes().await.unwrap();
        assert_eq!(text(&headers, "content-length"), bytes.len().to_string());
        assert_eq!(decoded(expected, &bytes), plain, "{accept}");
        // HEAD says the same of what GET gives.
        let head = rig
            .http
            .head(format!("{}{url}", rig.base))
            .header("accept-encoding", accept)
            .send()
            .await
            .unwrap();
        for name in ["content-length", "content-encoding", "content-type", "etag", "cache-control", "vary"] {
            assert_eq!(head.headers().get(name), headers.get(name), "{accept}: {name}");
        }
        assert!(head.bytes().await.unwrap().is_empty());
    }
    assert_eq!(etags.len(), 4, "one etag for each encoding");
}

pub(crate) fn decoded(encoding: &str, bytes: &[u8]) -> Vec<u8> {
    use std::io::Read as _;

    let mut out = Vec::new();
    match encoding {
        "br" => brotli::BrotliDecompress(&mut &bytes[..], &mut out).unwrap(),
        "zstd" => out = zstd::decode_all(bytes).unwrap(),
        "gzip" => {
            let mut decoder = flate2::read::GzDecoder::new(bytes);
            decoder.read_to_end(&mut out).unwrap();
        }
        _ => out = bytes.to_vec(),
    }
    out
}

async fn conditions(rig: Rig) {
    let asset = rig.public("site.css", &sample("site.css")).await;
    let urls = rig.urls(&asset.id).await.unwrap();
    for url in [&urls.url, &urls.stable_url] {
        let first = headers(&rig, url).await;
        let (etag, modified) = (text(&first, "etag"), text(&first, "last-modified"));
        let weak = format!("W/{etag}");
        let gzip = rig.get(url).header("accept-encoding", "gzip").send().await.unwrap();
        let gzip_etag = text(gzip.headers(), "etag").to_owned();
        for (name, value, status) in [
            ("if-none-match", etag, 304),
            ("if-none-match", weak.as_str(), 304),
            ("if-none-match", "*", 304),
            ("if-none-match", gzip_etag.as_str(), 200),
            ("if-modified-since", modified, 304),
            ("if-modified-since", "Mon, 01 Jan 2001 00:00:00 GMT", 200),
            ("if-match", etag, 200),
            ("if-match", weak.as_str(), 412),
            ("if-match", "\"other\"", 412),
            ("if-unmodified-since", "Mon, 01 Jan 2001 00:00:00 GMT", 412),
        ] {
            let response = rig.get(url).header(name, value).send().await.unwrap();
            assert_eq!(response.status(), status, "{name}: {value}");
            if status == 304 {
                for same in ["etag", "cache-control", "vary", "last-modified"] {
                    assert_eq!(response.headers().get(same), first.get(same), "{same} in 304");
                }
                assert!(response.headers().get("date").is_some());
                assert!(response.bytes().await.unwrap().is_empty());
            }
        }
    }
}

async fn ranges(rig: Rig) {
    let big: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let small = rig.public("todo.js", &sample("todo.js")).await;
    let large = rig.public("video.bin", &big).await;
    for asset in [small, large] {
        let url = rig.urls(&asset.id).await.unwrap().url;
        for accept in ["identity", "br"] {
            let whole = rig.get(&url).header("accept-encoding", accept).send().await.unwrap();
            let etag = text(whole.headers(), "etag").to_owned();
            let encoding = text(whole.headers(), "content-encoding").to_owned();
            let whole = whole.bytes().await.unwrap();
            let size = whole.len();
            let last = size - 1;
            let get = |range: String| rig.get(&url).header("accept-encoding", accept).header("range", range);
            for (range, expected) in [
                ("0-99".to_owned(), 0..100),
                ("100-".to_owned(), 100..size),
                ("-10".to_owned(), size - 10..size),
                (format!("{last}-{last}"), last..size),
                (format!("5-{}", size + 1000), 5..size),
            ] {
                let part = get(format!("bytes={range}")).send().await.unwrap();
                assert_eq!(part.status(), 206, "{range}");
                let content_range = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
                assert_eq!(text(part.headers(), "content-range"), content_range);
                assert_eq!(text(part.headers(), "content-length"), expected.len().to_string());
                assert_eq!(
                    (text(part.headers(), "etag"), text(part.headers(), "content-encoding")),
                    (&*etag, &*encoding)
                );
                assert_eq!(
                    text(part.headers(), "vary"),
                    if asset.name == "todo.js" { "Accept-Encoding" } else { "" }
                );
                assert_eq!(part.bytes().await.unwrap(), whole.slice(expected));
            }
            let beyond = get(format!("bytes={size}-")).send().await.unwrap();
            assert_eq!(beyond.status(), 416);
            assert_eq!(text(beyond.headers(), "content-range"), format!("bytes */{size}"));
            for ignored in ["bytes=0-1,5-6", "bytes=9-2", "lines=1-2", "bytes=x"] {
                let all = get(ignored.to_owned()).send().await.unwrap();
                assert_eq!(all.status(), 200, "{ignored}");
                assert_eq!(all.bytes().await.unwrap(), whole);
            }
            let same = get("bytes=0-9".to_owned()).header("if-range", etag.as_str()).send().await.unwrap();
            assert_eq!(same.status(), 206);
            let other = get("bytes=0-9".to_owned()).header("if-range", "\"other\"").send().await.unwrap();
            assert_eq!((other.status().as_u16(), other.bytes().await.unwrap().len()), (200, size));
            let head = rig
                .http
                .head(format!("{}{url}", rig.base))
                .header("range", "bytes=0-9")
                .send()
                .await
                .unwrap();
            assert_eq!(head.status(), 200, "ranges are for GET");
        }
    }
}

async fn what_is_private_does_not_exist(rig: Rig) {
    let asset = acting_for("alice", rig.private("secret.txt", b"do not tell")).await;
    for path in [format!("/assets/{}/secret.txt", asset.id), "/files/alice/secret.txt".to_owned()] {
        for user in ["alice", "local"] {
            let hidden = rig.get(&path).header("weft-user", user).send().await.unwrap();
            let missing = rig.get("/files/alice/nothing.txt").send().await.unwrap();
            assert_eq!(hidden.status(), 404, "{path}");
            assert_eq!(
                hidden.bytes().await.unwrap(),
                missing.bytes().await.unwrap(),
                "no difference may show"
            );
        }
    }
    // The same bytes made public by somebody else are theirs, under their name.
    let bobs = acting_for("bob", rig.public("open.txt", b"do not tell")).await;
    assert_eq!(bobs.id, asset.id);
    let get = async |path: String| rig.get(&path).send().await.unwrap().status();
    assert_eq!(get(format!("/assets/{}/open.txt", asset.id)).await, 200);
    assert_eq!(get(format!("/assets/{}/secret.txt", asset.id)).await, 404);
    assert_eq!(get("/files/alice/secret.txt".into()).await, 404);
}

async fn a_stable_url_gives_the_newest(rig: Rig) {
    let body =
        async |response: Response| String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap();
    let newest = async || body(rig.get("/files/local/app.txt").send().await.unwrap()).await;
    let one = rig.public("app.txt", b"one").await;
    assert_eq!(newest().await, "one");
    let two = rig.public("app.txt", b"two").await;
    assert_eq!(newest().await, "two");
    // Rolling back is uploading again.
    rig.public("app.txt", b"one").await;
    assert_eq!(newest().await, "one");
    rig.delete(&one.id).await.unwrap();
    assert_eq!(newest().await, "two", "the one before");
    // The old URL still gives what it gave.
    assert_eq!(body(rig.get(&format!("/assets/{}/app.txt", two.id)).send().await.unwrap()).await, "two");
    rig.delete(&two.id).await.unwrap();
    assert_eq!(rig.get("/files/local/app.txt").send().await.unwrap().status(), 404);
}

async fn errors_are_json_and_never_stored(rig: Rig) {
    let asset = rig.public("a.txt", b"text").await;
    let id = &asset.id;
    let request = |method: Method, path: String| rig.http.request(method, format!("{}{path}", rig.base));
    for (method, path, status) in [
        (Method::GET, format!("/assets/{}/a.txt", "0".repeat(64)), 404),
        (Method::GET, format!("/assets/{id}/b.txt"), 404),
        (Method::GET, format!("/assets/{}/a.txt", id.to_uppercase()), 404),
        (Method::GET, "/assets/..%2f..%2fetc/passwd".into(), 404),
        (Method::GET, format!("/assets/{id}/..%2fa.txt"), 404),
        (Method::GET, format!("/assets/{id}/%ff"), 404),
        (Method::GET, "/files/..%2f/a.txt".into(), 404),
        (Method::GET, "/files/local/%00".into(), 404),
        (Method::POST, format!("/assets/{id}/a.txt"), 405),
        (Method::DELETE, "/files/local/a.txt".into(), 405),
        (Method::PUT, "/files/local/a.txt".into(), 405),
    ] {
        let response = request(method.clone(), path.clone()).send().await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        let headers = response.headers().clone();
        assert_eq!(text(&headers, "cache-control"), "no-store", "{path}");
        assert_eq!(text(&headers, "content-type"), "application/json", "{path}");
        assert_eq!(text(&headers, "allow"), if status == 405 { "GET, HEAD" } else { "" });
        let body: serde_json::Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(body["error"]["status"], status);
        assert!(body["error"]["reason"].is_string() && body["error"]["message"].is_string());
    }
}

async fn names_are_percent_encoded(rig: Rig) {
    for name in ["a b.txt", "größe 100%.txt", "a?b#c.txt", "..hidden", "&<>\".txt", &"x".repeat(255)] {
        let asset = acting_for("me@example.com", rig.put(public(name), name.as_bytes()))
            .await
            .unwrap()
            .asset
            .unwrap();
        let urls: pb::GetAssetUrlResponse = acting_for("me@example.com", rig.urls(&asset.id)).await.unwrap();
        for url in [urls.url, urls.stable_url] {
            let response = rig.get(&url).send().await.unwrap();
            assert_eq!(response.status(), 200, "{url}");
            assert_eq!(response.bytes().await.unwrap(), name.as_bytes());
        }
    }
}
