//! Which origin a request is for, and under what its response is kept.

use weft_assets::config::{Immutable, OriginConfig};

use super::{get, text, with_origin};
use crate::{
    rig::{Rig, sample},
    upstream::{Page, Upstream},
};

with_origin!(
    languages_are_kept_apart,
    what_is_not_kept_is_given_to_those_alone_whom_it_answers,
    the_query_is_part_of_the_key
);

async fn languages_are_kept_apart(rig: Rig, origin: Upstream) {
    let path = "/static/text.json";
    origin.script(path, |asked| {
        let language = asked.header("accept-language").unwrap_or("none");
        let page = Page::new("application/json", format!("\"{language}\""));
        page.header("vary", "Accept-Language").header("cache-control", "max-age=600")
    });
    for _ in 0..2 {
        for language in ["de", "en"] {
            let response = rig.get(path).header("accept-language", language).send().await.unwrap();
            let vary: Vec<_> = response.headers().get_all("vary").iter().collect();
            assert_eq!(vary, ["Accept-Language", "Accept-Encoding"]);
            assert_eq!(response.text().await.unwrap(), format!("\"{language}\""));
        }
        assert_eq!(get(&rig, path).await.2, "\"none\"");
    }
    let languages: Vec<_> =
        origin.asked(path).iter().map(|asked| asked.header("accept-language").map(str::to_owned)).collect();
    assert_eq!(languages, [None, Some("de".to_owned()), Some("en".to_owned())], "told only once it selects");
}

async fn what_is_not_kept_is_given_to_those_alone_whom_it_answers(rig: Rig, origin: Upstream) {
    let path = "/static/dashboard";
    origin.script(path, |asked| {
        let body = format!("<p>{}", asked.header("rsc").unwrap_or("none"));
        Page::new("text/html", body).header("vary", "RSC")
    });
    for _ in 0..2 {
        let asked = rig.get(path).header("rsc", "1").send().await.unwrap();
        assert_eq!(asked.text().await.unwrap(), "<p>1");
        assert_eq!(get(&rig, path).await.2, "<p>none");
    }
}

async fn the_query_is_part_of_the_key(rig: Rig, origin: Upstream) {
    for query in ["", "?v=1", "?v=2"] {
        origin
            .give(&format!("/static/a.css{query}"), Page::css(query).header("cache-control", "max-age=600"));
    }
    for _ in 0..2 {
        for query in ["", "?v=1", "?v=2"] {
            assert_eq!(get(&rig, &format!("/static/a.css{query}")).await.2, query);
        }
    }
    assert_eq!(get(&rig, "/static/%61.css").await.2, "", "another spelling of the same");
    assert_eq!(origin.all().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_prefixes_and_our_own_paths_find_their_place() {
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let rig = Rig::with(|config| {
        for (path_prefix, host, url) in [
            ("/", "", one.url()),
            ("/assets/", "", one.url()),
            ("/assets/deep/", "chat.example", format!("{}/base/", other.url())),
            ("/manifest.json", "chat.example", other.url()),
        ] {
            let (path_prefix, host) = (path_prefix.into(), host.into());
            let immutable = Immutable::Always;
            config.origins.push(OriginConfig {
                path_prefix,
                host,
                url,
                immutable,
                ..OriginConfig::default()
            });
        }
    })
    .await;
    for path in ["/", "/assets/", "/assets/a.css", "/assets/x/a.css", "/assets/x/y/a.css", "/manifest.json"] {
        one.give(path, Page::new(if path.ends_with("json") { "application/json" } else { "text/css" }, path));
        let response = rig.get(path).send().await.unwrap();
        assert_eq!(
            text(response.headers(), "cache-control"),
            "public, max-age=31536000, immutable",
            "{path}"
        );
        assert_eq!(response.text().await.unwrap(), path);
    }
    for (path, there) in
        [("/assets/deep/a.css", "/base/assets/deep/a.css"), ("/manifest.json", "/manifest.json")]
    {
        other.give(
            there,
            Page::new(if path.ends_with("json") { "application/json" } else { "text/css" }, "other"),
        );
        let response = rig.get(path).header("host", "Chat.Example:80").send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "other", "{path}");
        assert_eq!(other.asked(there)[0].header("host"), Some(other.url().trim_start_matches("http://")));
    }
    let asset = rig.public("site.css", &sample("site.css")).await;
    for url in [rig.urls(&asset.id).await.unwrap().url, "/files/local/site.css".into()] {
        let response = rig.get(&url).send().await.unwrap();
        assert_eq!((response.status().as_u16(), text(response.headers(), "cache-status")), (200, ""));
    }
    assert_eq!(rig.get("/health").send().await.unwrap().status(), 200);
    assert_eq!(rig.get(&format!("/assets/{}/none.css", "0".repeat(64))).send().await.unwrap().status(), 404);
}
