//! What is accepted as what.

use super::*;

const MAX_PIXELS: u64 = 50_000_000;

fn checked(bytes: &[u8], media_type: &str) -> Result<Option<Dimensions>, String> {
    // Small pieces, so that nothing depends on how the bytes arrive.
    let reader = io::BufReader::with_capacity(7, bytes);
    check(reader, &MediaType::parse(media_type).unwrap(), MAX_PIXELS).map_err(|e| e.to_string())
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../../tests/samples/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn the_samples_are_what_they_say() {
    for name in
        ["todo.js", "markdown.mjs", "site.css", "chart.png", "gradient.png", "landscape.jpg", "grey.jpg"]
    {
        let media_type = MediaType::of_name(name).to_string();
        checked(&sample(name), &media_type).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    let landscape = checked(&sample("landscape.jpg"), "image/jpeg").unwrap();
    assert_eq!(landscape, Some(Dimensions { width: 1024, height: 683 }));
}

#[test]
fn a_file_of_another_kind_is_refused() {
    for (name, media_type, problem) in [
        ("todo.js", "image/png", "not image/png"),
        ("chart.png", "image/jpeg", "not image/jpeg"),
        ("chart.png", "text/plain", "not UTF-8 text at byte"),
        ("landscape.jpg", "text/css", "not UTF-8 text at byte"),
        ("site.css", "application/json", "not JSON"),
        ("site.css", "application/pdf", "not application/pdf"),
        ("site.css", "image/svg+xml", "not SVG"),
        ("todo.js", "image/webp", "not image/webp"),
    ] {
        let error = checked(&sample(name), media_type).unwrap_err();
        assert!(error.contains(problem), "{name} as {media_type}: {error}");
    }
    assert!(checked(b" <!DOCTYPE HTML><p>not found", "text/javascript").unwrap_err().contains("HTML page"));
    assert!(checked(b"{\"a\": 1,}", "application/json").is_err());
    assert!(checked(b"a\0b", "text/plain").unwrap_err().contains("at byte 1"));
}

#[test]
fn every_proper_beginning_of_an_image_is_refused() {
    for (name, media_type) in [("gradient.png", "image/png"), ("grey.jpg", "image/jpeg")] {
        let whole = sample(name);
        for length in (0..whole.len()).step_by(997).chain([whole.len() - 1]) {
            assert!(checked(&whole[..length], media_type).is_err(), "{name} cut at {length}");
        }
    }
}

#[test]
fn an_image_of_too_many_pixels_is_refused_by_its_header() {
    let mut png = sample("chart.png");
    png[16..24].copy_from_slice(&[0, 0, 0x27, 0x10, 0, 0, 0x27, 0x10]);
    let mut crc = flate2::Crc::new();
    crc.update(&png[12..29]);
    png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let error = checked(&png, "image/png").unwrap_err();
    assert_eq!(error, "the image has 10000 x 10000 pixels, more than the 50000000 allowed");
}

#[test]
fn damage_is_seen() {
    let mut png = sample("chart.png");
    let middle = png.len() / 2;
    png[middle] ^= 1;
    assert!(checked(&png, "image/png").unwrap_err().contains("checksum"));
}

#[test]
fn utf8_may_be_cut_anywhere_by_the_reader_but_not_by_the_file() {
    let text = "héllo wörld 🌍 ".repeat(9000);
    checked(text.as_bytes(), "text/plain").unwrap();
    let cut = &text.as_bytes()[..text.len() - 2];
    assert!(checked(cut, "text/plain").is_err());
    checked(b"caf\xe9", "text/plain; charset=iso-8859-1").unwrap();
    checked(b"", "text/plain").unwrap();
}

#[test]
fn anything_goes_as_octets() {
    checked(&[0, 159, 146, 150], "application/octet-stream").unwrap();
}
