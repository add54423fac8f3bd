//! `weft asset put`: what each file became.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use weft_client::{Assets, Error, Source, Upload};
use weft_proto::assets::v1::{Asset, Visibility};

use crate::{
    failure,
    session::Session,
    terminal::{self, Paint, Tone, printable},
    units,
};

/// Uploads files one after the other; those that cannot be are told, and the rest are uploaded all the same.
pub(super) async fn run(
    session: &Session,
    assets: &Assets,
    files: &[PathBuf],
    visibility: Visibility,
    tags: &[String],
) -> anyhow::Result<ExitCode> {
    let mut failed = false;
    for file in files {
        match put(assets, file, visibility, tags).await {
            Ok((asset, url, existed)) => {
                let url = url.map(|url| absolute(session.gateway(), &url));
                terminal::print(&told(&asset, url.as_deref(), existed, session.out))?;
            }
            Err(error) => {
                failed = true;
                let label = session.err.tone(Tone::Bad, "failed");
                let reason = printable(&failure::reason(&error));
                terminal::tell(format!("{label} {}: {reason}", file.display()));
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn put(
    assets: &Assets,
    file: &Path,
    visibility: Visibility,
    tags: &[String],
) -> Result<(Asset, Option<String>, bool), Error> {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let source = Source::File(file.to_owned());
    let upload = Upload { visibility, tags: tags.to_vec(), ..Upload::private(name, source) };
    let uploaded = assets.put(&upload).await?;
    let public = uploaded.asset.visibility() == Visibility::Public;
    let url = if public { Some(assets.urls(&uploaded.asset.id).await?.url) } else { None };
    // The variants are made by the time the upload is answered, or a moment later.
    let asset = assets.stat(&uploaded.asset.id).await.unwrap_or(uploaded.asset);
    Ok((asset, url, uploaded.existed))
}

/// A URL that the assets service gives relative to the gateway, as it can be typed.
fn absolute(gateway: &str, url: &str) -> String {
    if url.starts_with('/') { format!("{gateway}{url}") } else { url.to_owned() }
}

/// `site.css  12.0 KiB → 9.1 KiB optimized (-24.2 %), 2.1 KiB br (-82.5 %)`, then the id and the URL.
fn told(asset: &Asset, url: Option<&str>, existed: bool, paint: Paint) -> String {
    let before = asset.size_bytes;
    let mut forms = Vec::new();
    let optimized = asset.variants.iter().find(|variant| variant.encoding == "identity" && variant.optimized);
    if let Some(optimized) = optimized {
        forms.push(form("optimized", before, optimized.size_bytes));
    }
    for encoding in ["br", "zstd", "gzip"] {
        if let Some(variant) = asset.variants.iter().find(|variant| variant.encoding == encoding) {
            forms.push(form(encoding, before, variant.size_bytes));
        }
    }
    let arrow = if forms.is_empty() { String::new() } else { format!(" → {}", forms.join(", ")) };
    let known = if existed { paint.dim(" (known already)") } else { String::new() };
    let name = paint.strong(printable(&asset.name));
    let mut text =
        format!("{name}  {}{arrow}{known}\n  {} {}\n", units::bytes(before), paint.dim("id "), asset.id);
    if let Some(url) = url {
        text.push_str(&format!("  {} {url}\n", paint.dim("url")));
    }
    text
}

fn form(name: &str, before: u64, after: u64) -> String {
    format!("{} {name} ({})", units::bytes(after), units::change(before, after))
}

#[cfg(test)]
mod tests {
    use weft_proto::assets::v1::Variant;

    use super::*;

    fn asset() -> Asset {
        let variant = |encoding: &str, optimized, size_bytes| Variant {
            encoding: encoding.into(),
            optimized,
            size_bytes,
        };
        Asset {
            id: "abc".into(),
            name: "site.css".into(),
            size_bytes: 12_288,
            variants: vec![variant("identity", true, 9_216), variant("br", true, 2_150)],
            ..Default::default()
        }
    }

    #[test]
    fn a_public_asset_is_told_with_its_forms_and_url() {
        assert_eq!(
            told(&asset(), Some("http://h/assets/abc/site.css"), false, Paint::BARE),
            "site.css  12.0 KiB → 9.0 KiB optimized (-25.0 %), 2.1 KiB br (-82.5 %)\n  id  abc\n  \
             url http://h/assets/abc/site.css\n"
        );
    }

    #[test]
    fn a_private_asset_has_a_size_and_an_id() {
        let asset = Asset { variants: vec![], ..asset() };
        assert_eq!(told(&asset, None, true, Paint::BARE), "site.css  12.0 KiB (known already)\n  id  abc\n");
    }

    #[test]
    fn relative_urls_are_the_gateways() {
        assert_eq!(absolute("http://h:1", "/assets/a/b.css"), "http://h:1/assets/a/b.css");
        assert_eq!(absolute("http://h:1", "https://cdn/assets/a/b.css"), "https://cdn/assets/a/b.css");
    }
}
