//! Bad input: a precise error, nothing stored, nothing leaked.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tonic::Code;
use weft_mesh::error::CallError;
use weft_proto::assets::v1::{self as pb, put_asset_request::Part};
use weft_testkit::eventually;

use crate::{
    on_every_backend,
    rig::{self, Rig, parts, public, refused, sample},
};

on_every_backend!(every_bad_upload_is_refused_by_field_and_leaves_nothing);
on_every_backend!(an_upload_cut_off_half_way_leaves_nothing);
on_every_backend!(bad_requests_name_their_field);

/// A PNG of 100 megapixels in a few kilobytes: grey, one bit a pixel, all the same.
fn huge_png() -> Vec<u8> {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, 10_000, 10_000);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    encoder.write_header().unwrap().write_image_data(&vec![0; 1250 * 10_000]).unwrap();
    png
}

fn header(name: &str, content_type: &str) -> pb::AssetHeader {
    pb::AssetHeader { content_type: content_type.into(), ..public(name) }
}

async fn every_bad_upload_is_refused_by_field_and_leaves_nothing(rig: Rig) {
    let huge = huge_png();
    assert!(huge.len() < 100_000, "{}", huge.len());
    let jpeg = sample("landscape.jpg");
    let announced =
        |size, blake3: &str| pb::AssetHeader { size_bytes: size, blake3: blake3.into(), ..public("a.txt") };
    let many_tags = pb::AssetHeader { tags: vec!["t".into(); 17], ..public("a.txt") };
    let long_tag = pb::AssetHeader { tags: vec!["t".repeat(65)], ..public("a.txt") };
    let unknown_visibility = pb::AssetHeader { visibility: 7, ..public("a.txt") };
    for (header, data, field, problem) in [
        (public(""), &b"x"[..], "name", "empty"),
        (public("a/b.txt"), b"x", "name", "slash"),
        (public("a\nb.txt"), b"x", "name", "control character"),
        (public("a\u{7f}.txt"), b"x", "name", "control character"),
        (public(".."), b"x", "name", "folder"),
        (public(&"x".repeat(256)), b"x", "name", "longer than 255 bytes"),
        (header("a", "nonsense"), b"x", "content_type", "type/subtype"),
        (header("a", "text/html\r\nset-cookie: a=b"), b"x", "content_type", "printable"),
        (unknown_visibility, b"x", "visibility", "7"),
        (many_tags, b"x", "tags", "17 are more than 16"),
        (long_tag, b"x", "tags", "has not 1 to 64 bytes"),
        (announced(Some(2), ""), b"x", "size_bytes", "2 announced, 1 received"),
        (announced(Some(0), ""), b"x", "size_bytes", "0 announced, 1 received"),
        (announced(Some(1 << 40), ""), b"x", "size_bytes", "more than the 67108864 bytes"),
        (announced(None, &"0".repeat(64)), b"x", "blake3", "the bytes received have"),
        (announced(None, "abc"), b"x", "blake3", "64 hex digits"),
        (public("huge.png"), &huge, "content_type", "10000 x 10000 pixels, more than the 50000000 allowed"),
        (public("cut.jpg"), &jpeg[..jpeg.len() / 2], "content_type", "ends before its end"),
        (public("not.png"), &jpeg, "content_type", "not image/png"),
        (public("not.js"), b"this is prose, not a script", "content_type", "not JavaScript"),
        (public("not.css"), &jpeg, "content_type", "not UTF-8"),
        (public("not.json"), b"{", "content_type", "not JSON"),
        (header("page.txt", "image/gif"), b"<script>alert(1)</script>", "content_type", "not image/gif"),
    ] {
        let name = header.name.clone();
        let status = rig.put(header, data).await.expect_err(&name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name:?}: {status:?}");
        assert!(status.message().starts_with(&format!("{field}: ")), "{name:?}: {}", status.message());
        assert!(status.message().contains(problem), "{name:?}: {}", status.message());
        let error = CallError::from(status);
        assert_eq!(error.fields.iter().map(|f| f.field.as_str()).collect::<Vec<_>>(), [field], "{name:?}");
        assert_eq!(error.reason, "INVALID_FIELD");
    }
    // The private twin of what is refused as content is refused as well.
    let private = pb::AssetHeader { visibility: 0, ..public("huge.png") };
    refused(rig.put(private, &huge).await, Code::InvalidArgument, "10000 x 10000 pixels");
    assert_eq!(rig.list(0, "").await.unwrap().assets, []);
    assert_eq!(rig.files(), Vec::<String>::new());
}

async fn an_upload_cut_off_half_way_leaves_nothing(rig: Rig) {
    // Enough to be spooled to a file, and then the client vanishes.
    let (mut sender, receiver) = futures::channel::mpsc::channel(1);
    let mut client = rig.client.clone();
    let call = tokio::task::JoinSet::from_iter([async move { client.put_asset(receiver).await }]);
    let part = |part| pb::PutAssetRequest { part: Some(part) };
    sender.send(part(Part::Header(public("cut.bin")))).await.unwrap();
    for _ in 0..5 {
        sender.send(part(Part::Data(Bytes::from(vec![7; 200_000])))).await.unwrap();
    }
    eventually(Duration::from_secs(10), || async { !rig.files().is_empty() }).await;
    drop(call);
    eventually(Duration::from_secs(10), || async { rig.files().is_empty() }).await;
    assert_eq!(rig.list(0, "").await.unwrap().assets, []);
    // The same bytes go up whole afterwards.
    rig.public("cut.bin", &vec![7; 1_000_000]).await;
}

async fn bad_requests_name_their_field(rig: Rig) {
    refused(rig.stat("").await, Code::InvalidArgument, "id: ");
    refused(rig.stat(&"x".repeat(1000)).await, Code::InvalidArgument, "id: ");
    refused(rig.delete("").await, Code::InvalidArgument, "id: ");
    refused(rig.list(-1, "").await, Code::InvalidArgument, "page_size: ");
    refused(rig.list(1001, "").await, Code::InvalidArgument, "page_size: ");
    refused(rig.list(0, "garbage").await, Code::InvalidArgument, "page_token: ");
    refused(rig.list(0, "\u{1f600}").await, Code::InvalidArgument, "page_token: ");
    let put = async |parts: Vec<pb::PutAssetRequest>| {
        rig.client.clone().put_asset(futures::stream::iter(parts)).await
    };
    refused(put(vec![]).await, Code::InvalidArgument, "header: ");
    refused(put(vec![pb::PutAssetRequest { part: None }]).await, Code::InvalidArgument, "header: ");
    let data = pb::PutAssetRequest { part: Some(Part::Data(Bytes::from_static(b"x"))) };
    refused(put(vec![data]).await, Code::InvalidArgument, "header: ");
    let twice = [parts(public("a.txt"), b"x"), parts(public("a.txt"), b"x")].concat();
    refused(put(twice).await, Code::InvalidArgument, "header: sent twice");
}

#[tokio::test]
async fn an_upload_over_the_limit_is_refused_while_it_comes() {
    let rig = Rig::with(|config| config.max_asset_bytes = 1000).await;
    let endless =
        futures::stream::iter(parts(public("a.bin"), &[1; 500_000])).chain(futures::stream::pending());
    refused(
        rig.client.clone().put_asset(endless).await,
        Code::InvalidArgument,
        "data: more than the 1000 bytes",
    );
    rig.public("b.bin", &[1; 1000]).await;
    eventually(Duration::from_secs(5), || async { !rig.files().iter().any(|file| file.contains("spool")) })
        .await;
}

#[tokio::test]
async fn an_upload_that_falls_silent_is_given_up_and_leaves_nothing() {
    let rig = Rig::with(|config| config.upload_idle_timeout = Duration::from_millis(300)).await;
    let message = |part| pb::PutAssetRequest { part: Some(part) };
    let header = message(Part::Header(public("a.bin")));
    let data = message(Part::Data(Bytes::from(vec![7; 500_000])));
    for begun in [vec![], vec![header.clone()], vec![header, data.clone(), data]] {
        let silent = futures::stream::iter(begun).chain(futures::stream::pending());
        let mut client = rig.client.clone();
        let put = tokio::time::timeout(Duration::from_secs(30), client.put_asset(silent)).await;
        let status = put.expect("an end of it").unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert!(status.message().contains("sent nothing for 0.3 s"), "{status:?}");
        assert_eq!(CallError::from(status).reason, "UPLOAD_IDLE");
    }
    eventually(Duration::from_secs(5), || async { rig.files().is_empty() }).await;
    assert_eq!(rig.list(0, "").await.unwrap().assets, []);
}

#[tokio::test]
async fn too_many_optimizations_are_refused_with_a_hint() {
    let rig = Rig::with(|config| {
        config.optimize.workers = 1;
        config.optimize.max_waiting = 1;
    })
    .await;
    let images: Vec<_> = (0..12_u8).map(noisy_png).collect();
    let uploads = images.iter().enumerate().map(|(i, png)| rig.put(public(&format!("{i}.png")), png));
    let done = futures::future::join_all(uploads).await;
    let refused: Vec<_> = done.into_iter().filter_map(Result::err).collect();
    assert!(!refused.is_empty() && refused.len() < 12, "{} refused", refused.len());
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted);
        let error = CallError::from(status);
        assert!(error.retry_after.is_some_and(|after| after >= Duration::from_secs(1)), "{error:?}");
        assert_eq!(error.reason, "OPTIMIZER_BUSY");
    }
    let stats = rig.stats().await;
    assert_eq!((stats.optimizing, stats.puts), (0, rig.list(0, "").await.unwrap().assets.len() as u64));
}

fn noisy_png(seed: u8) -> Vec<u8> {
    let image =
        image::RgbImage::from_fn(400, 400, |x, y| image::Rgb([(x * y) as u8 ^ seed, (x / 3) as u8, y as u8]));
    let mut png = std::io::Cursor::new(Vec::new());
    image.write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}

#[tokio::test]
async fn an_unusable_data_directory_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = rig::start(rig::config(file.clone())).await.unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains(&file.display().to_string()), "{text}");
    let rig = Rig::filesystem().await;
    let taken = rig::start(rig::config(rig.directory.path().to_owned())).await.unwrap_err();
    assert!(format!("{taken:#}").contains("another process uses it"), "{taken:#}");
}

#[tokio::test]
async fn an_image_too_large_to_optimize_is_served_as_it_is() {
    let rig = Rig::with(|config| config.optimize.max_optimized_pixels = 100).await;
    let png = sample("chart.png");
    let asset = rig.public("chart.png", &png).await;
    assert!(asset.variants.iter().all(|variant| !variant.optimized));
    let url = rig.urls(&asset.id).await.unwrap().url;
    assert_eq!(rig.get(&url).send().await.unwrap().bytes().await.unwrap(), png);
    let stats = rig.stats().await;
    assert_eq!(stats.optimizers.iter().find(|o| o.kind == "png").map(|o| (o.runs, o.kept)), Some((1, 1)));
}
