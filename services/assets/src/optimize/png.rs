//! PNG images, by oxipng: lossless, and compared pixel by pixel with the original before it is believed.

use image::{DynamicImage, ImageFormat};
use oxipng::{Options, StripChunks};

use super::Kept;

/// Compresses a PNG again.
pub(super) fn recompress(source: &[u8]) -> Result<Vec<u8>, Kept> {
    if is_animated(source) {
        return Err(Kept::Unreadable("animated".into()));
    }
    // Chunks that change how the image looks stay; texts, times and the like go. Level 2 takes a third of the time of
    // level 4 for all but a few percent of the gain, and an upload waits for it.
    let options = Options { strip: StripChunks::Safe, ..Options::from_preset(2) };
    let smaller =
        oxipng::optimize_from_memory(source, &options).map_err(|e| Kept::Unreadable(e.to_string()))?;
    if smaller.len() >= source.len() {
        return Err(Kept::NotSmaller);
    }
    let before = decode(source)?;
    let after = decode(&smaller)?;
    if same_pixels(before, after) { Ok(smaller) } else { Err(Kept::Unverified) }
}

fn decode(png: &[u8]) -> Result<DynamicImage, Kept> {
    image::load_from_memory_with_format(png, ImageFormat::Png).map_err(|e| Kept::Unreadable(e.to_string()))
}

fn same_pixels(before: DynamicImage, after: DynamicImage) -> bool {
    let is_deep = |image: &DynamicImage| image.color().bytes_per_pixel() > image.color().channel_count();
    if is_deep(&before) || is_deep(&after) {
        before.into_rgba16() == after.into_rgba16()
    } else {
        before.into_rgba8() == after.into_rgba8()
    }
}

/// Whether there is an animation control chunk, which stands before the first data chunk.
fn is_animated(png: &[u8]) -> bool {
    let mut rest = png.get(8..).unwrap_or_default();
    while let Some(([a, b, c, d, kind @ ..], after)) = rest.split_first_chunk::<8>() {
        match kind {
            b"acTL" => return true,
            b"IDAT" => return false,
            _ => {}
        }
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        rest = after.get(length.saturating_add(4)..).unwrap_or_default();
    }
    false
}
