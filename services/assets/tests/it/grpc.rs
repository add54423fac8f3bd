//! The RPCs, on every backend.

use tonic::Code;
use weft_proto::assets::v1 as pb;

use crate::{
    on_every_backend,
    rig::{Rig, acting_for, public, refused, sample},
};

on_every_backend!(an_upload_comes_back_as_it_went);
on_every_backend!(equal_bytes_of_one_owner_are_one_asset);
on_every_backend!(each_owner_sees_only_their_own);
on_every_backend!(pages_hold_everything_once);
on_every_backend!(variants_are_made_listed_purged_and_made_again);
on_every_backend!(asking_for_public_makes_it_so);
on_every_backend!(deleting_leaves_the_other_owners_bytes);
on_every_backend!(concurrent_uploads_of_the_same_bytes_are_one_asset);
on_every_backend!(statistics_count);

async fn an_upload_comes_back_as_it_went(rig: Rig) {
    let large: Vec<u8> = (0..20_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (name, data) in [("empty.bin", &b""[..]), ("small.txt", b"hello"), ("large.bin", &large)] {
        let header = pb::AssetHeader {
            name: name.into(),
            size_bytes: Some(data.len() as u64),
            blake3: blake3::hash(data).to_hex().to_uppercase(),
            ..Default::default()
        };
        let put = rig.put(header, data).await.unwrap();
        let asset = put.asset.unwrap();
        assert!(!put.existed);
        assert_eq!(asset.id, blake3::hash(data).to_hex().as_str());
        assert_eq!(asset.size_bytes, data.len() as u64);
        assert_eq!(asset.visibility(), pb::Visibility::Private);
        assert_eq!(asset.variants, []);
        let (downloaded, bytes) = rig.download(&asset.id).await.unwrap();
        assert_eq!(downloaded, asset);
        assert!(bytes == data, "{name} came back changed");
        assert_eq!(rig.stat(&asset.id).await.unwrap(), asset);
    }
    refused(rig.stat(&"0".repeat(64)).await, Code::NotFound, "no asset");
    refused(rig.stat("../../etc/passwd").await, Code::NotFound, "no asset");
}

async fn equal_bytes_of_one_owner_are_one_asset(rig: Rig) {
    let first = rig.private("first.txt", b"the same").await;
    let header = pb::AssetHeader { name: "second.txt".into(), ..Default::default() };
    let second = rig.put(header, b"the same").await.unwrap();
    assert!(second.existed);
    assert_eq!(second.asset.unwrap(), first);
    assert_eq!(rig.list(0, "").await.unwrap().assets, [first]);
}

async fn each_owner_sees_only_their_own(rig: Rig) {
    let asset = acting_for("alice", rig.private("diary.txt", b"dear diary")).await;
    acting_for("mallory", async {
        refused(rig.stat(&asset.id).await, Code::NotFound, "no asset");
        refused(rig.download(&asset.id).await, Code::NotFound, "no asset");
        refused(rig.urls(&asset.id).await, Code::NotFound, "no asset");
        assert_eq!(rig.list(0, "").await.unwrap().assets, []);
        rig.delete(&asset.id).await.unwrap();
    })
    .await;
    // Names that would meet on a careless file system.
    for user in ["Alice", "../alice", "alice/", "ALICE"] {
        acting_for(user, async { refused(rig.stat(&asset.id).await, Code::NotFound, "no asset") }).await;
    }
    acting_for("alice", async {
        assert_eq!(rig.download(&asset.id).await.unwrap().1, b"dear diary");
        refused(rig.urls(&asset.id).await, Code::FailedPrecondition, "private");
    })
    .await;
}

async fn pages_hold_everything_once(rig: Rig) {
    let mut ids = Vec::new();
    for i in 0..25 {
        ids.push(rig.private(&format!("{i}.txt"), format!("text {i}").as_bytes()).await.id);
    }
    ids.sort();
    let (mut listed, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = rig.list(7, &token).await.unwrap();
        assert!(page.assets.len() <= 7);
        listed.extend(page.assets.into_iter().map(|asset| asset.id));
        (token, pages) = (page.next_page_token, pages + 1);
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((listed, pages), (ids, 4));
    let token = rig.list(7, "").await.unwrap().next_page_token;
    acting_for("bob", async { refused(rig.list(7, &token).await, Code::InvalidArgument, "page_token") })
        .await;
}

async fn variants_are_made_listed_purged_and_made_again(rig: Rig) {
    let mut header = public("site.css");
    header.tags = vec!["deploy-1".into(), "styles".into()];
    let css = sample("site.css");
    let asset = rig.put(header, &css).await.unwrap().asset.unwrap();
    let encodings: Vec<_> = asset.variants.iter().map(|variant| variant.encoding.as_str()).collect();
    assert_eq!(encodings, ["identity", "br", "zstd", "gzip"]);
    assert!(asset.variants.iter().all(|variant| variant.optimized && variant.size_bytes < css.len() as u64));
    let url = rig.urls(&asset.id).await.unwrap().url;
    let before = rig.get(&url).send().await.unwrap();
    let etag = before.headers()["etag"].clone();
    let before = before.bytes().await.unwrap();

    let purge = |target| {
        let mut client = rig.client.clone();
        async move {
            client
                .purge_assets(pb::PurgeAssetsRequest { target: Some(target) })
                .await
                .map(|r| r.into_inner().purged)
        }
    };
    use pb::purge_assets_request::Target;
    assert_eq!(purge(Target::Tag("deploy-2".into())).await.unwrap(), 0);
    assert_eq!(acting_for("bob", purge(Target::Tag("deploy-1".into()))).await.unwrap(), 0);
    assert_eq!(purge(Target::Tag("deploy-1".into())).await.unwrap(), 1);
    assert_eq!(purge(Target::Tag("deploy-1".into())).await.unwrap(), 0, "purged already");
    assert_eq!(rig.stat(&asset.id).await.unwrap().variants, []);
    refused(purge(Target::Name(String::new())).await, Code::InvalidArgument, "target");

    // Many at once: made once, and the same as before.
    let again = futures::future::join_all((0..8).map(|_| rig.get(&url).send())).await;
    for again in again {
        let again = again.unwrap();
        assert_eq!(again.headers()["etag"], etag);
        assert_eq!(again.bytes().await.unwrap(), before);
    }
    assert_eq!(rig.stat(&asset.id).await.unwrap(), asset);
    let css_runs = rig.stats().await.optimizers.iter().find(|o| o.kind == "css").unwrap().runs;
    assert_eq!(css_runs, 2, "one upload, one purge");
    assert_eq!(purge(Target::Name("site.css".into())).await.unwrap(), 1);
    assert_eq!(rig.get(&url).send().await.unwrap().bytes().await.unwrap(), before);
}

async fn asking_for_public_makes_it_so(rig: Rig) {
    let css = sample("components.css");
    let asset = rig.private("components.css", &css).await;
    let path = format!("/assets/{}/components.css", asset.id);
    assert_eq!(rig.get(&path).send().await.unwrap().status(), 404);
    let again = rig.put(public("other.css"), &css).await.unwrap();
    assert!(again.existed);
    let published = again.asset.unwrap();
    assert_eq!((published.name.as_str(), published.visibility()), ("components.css", pb::Visibility::Public));
    assert_eq!(rig.get(&path).send().await.unwrap().status(), 200);
    // Never back by the default of an upload.
    let private = rig.private("components.css", &css).await;
    assert_eq!(private.visibility(), pb::Visibility::Public);
}

async fn deleting_leaves_the_other_owners_bytes(rig: Rig) {
    let data = sample("todo.js");
    let alices = acting_for("alice", rig.public("todo.js", &data)).await;
    let bobs = acting_for("bob", rig.public("todo.js", &data)).await;
    assert_eq!(alices.id, bobs.id);
    let url = acting_for("alice", rig.urls(&alices.id)).await.unwrap().url;
    let before = rig.get(&url).send().await.unwrap().bytes().await.unwrap();

    acting_for("alice", rig.delete(&alices.id)).await.unwrap();
    acting_for("alice", rig.delete(&alices.id)).await.unwrap();
    refused(acting_for("alice", rig.stat(&alices.id)).await, Code::NotFound, "no asset");
    assert_eq!(acting_for("bob", rig.download(&bobs.id)).await.unwrap().1, data);
    assert_eq!(rig.get(&url).send().await.unwrap().bytes().await.unwrap(), before);
    assert_eq!(rig.get("/files/alice/todo.js").send().await.unwrap().status(), 404);

    acting_for("bob", rig.delete(&bobs.id)).await.unwrap();
    assert_eq!(rig.get(&url).send().await.unwrap().status(), 404);
    assert_eq!(rig.files(), Vec::<String>::new(), "something was left behind");
}

async fn concurrent_uploads_of_the_same_bytes_are_one_asset(rig: Rig) {
    let data = sample("markdown.mjs");
    let uploads = (0..8).map(|i| rig.put(public(&format!("{i}.mjs")), &data));
    let done: Vec<_> = futures::future::join_all(uploads).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(done.iter().filter(|put| !put.existed).count(), 1);
    let names: std::collections::BTreeSet<_> = done.into_iter().map(|put| put.asset.unwrap().name).collect();
    assert_eq!(names.len(), 1, "everybody learns the same name");
    assert_eq!(rig.list(0, "").await.unwrap().assets.len(), 1);
}

async fn statistics_count(rig: Rig) {
    let asset = rig.public("site.css", &sample("site.css")).await;
    rig.public("grey.jpg", &sample("grey.jpg")).await;
    rig.private("a.txt", b"text").await;
    rig.private("b.txt", b"text").await;
    let url = rig.urls(&asset.id).await.unwrap().url;
    let first = rig.get(&url).send().await.unwrap();
    let etag = first.headers()["etag"].clone();
    let length = first.bytes().await.unwrap().len() as u64;
    rig.get(&url).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(rig.get(&url).header("if-none-match", etag).send().await.unwrap().status(), 304);
    let stats = rig.stats().await;
    assert_eq!(stats.puts, 3);
    assert_eq!((stats.http_requests, stats.http_not_modified, stats.http_bytes), (3, 1, 2 * length));
    assert_eq!((stats.memory_hits, stats.optimizing, stats.store_errors), (1, 0, 0));
    let runs: Vec<_> = stats.optimizers.iter().map(|o| (o.kind.as_str(), o.runs, o.kept)).collect();
    assert_eq!(runs, [("js", 0, 0), ("css", 1, 0), ("png", 0, 0), ("jpeg", 1, 0)]);
    assert!(stats.optimizers.iter().all(|o| o.output_bytes <= o.input_bytes));
    assert!(["filesystem", "s3"].contains(&stats.backend.as_str()));
}
