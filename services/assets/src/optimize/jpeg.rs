//! JPEG images, by mozjpeg: progressive, trellis-quantized, at the quality the file itself was made with.
//!
//! Untrusted bytes are read by a decoder in Rust; the C encoder sees pixels only. The result is decoded and compared
//! with the original before it is believed. The colour profile and the orientation stay, all other metadata goes.

mod header;
pub(super) mod similarity;

use image::{DynamicImage, ImageDecoder as _, codecs::jpeg::JpegDecoder};
use mozjpeg::{ColorSpace, Compress, Marker};

use self::header::Header;
use super::Kept;

/// Least likeness of the result to the original, in decibels and as structural similarity; measured over photographs
/// and drawings this is below what a person sees at the size the image was made for.
pub(super) const MIN_PSNR: f64 = 36.0;
pub(super) const MIN_SSIM: f64 = 0.97;

/// Largest colour profile that one call can write; others make no sense.
const MAX_PROFILE_BYTES: usize = 4 * 1024 * 1024;

/// Encodes a JPEG again.
pub(super) fn reencode(source: &[u8]) -> Result<Vec<u8>, Kept> {
    let header = Header::read(source).ok_or_else(|| Kept::Unreadable("not a common JPEG".into()))?;
    let mut decoder = decoder(source)?;
    let profile = decoder.icc_profile().ok().flatten().filter(|profile| profile.len() <= MAX_PROFILE_BYTES);
    let orientation = decoder.orientation().map_or(1, image::metadata::Orientation::to_exif);
    let before = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    let smaller = encode(&header, &before, profile.as_deref(), orientation)?;
    if smaller.len() >= source.len() {
        return Err(Kept::NotSmaller);
    }
    let after = DynamicImage::from_decoder(self::decoder(&smaller)?).map_err(unreadable)?;
    let alike = similarity::of(&before, &after).is_some_and(|s| s.psnr >= MIN_PSNR && s.ssim >= MIN_SSIM);
    if alike { Ok(smaller) } else { Err(Kept::Unverified) }
}

fn decoder(jpeg: &[u8]) -> Result<JpegDecoder<std::io::Cursor<&[u8]>>, Kept> {
    JpegDecoder::new(std::io::Cursor::new(jpeg)).map_err(unreadable)
}

fn encode(
    header: &Header,
    image: &DynamicImage,
    profile: Option<&[u8]>,
    orientation: u8,
) -> Result<Vec<u8>, Kept> {
    let space = match image {
        DynamicImage::ImageLuma8(_) => ColorSpace::JCS_GRAYSCALE,
        DynamicImage::ImageRgb8(_) => ColorSpace::JCS_RGB,
        _ => return Err(Kept::Unreadable("not grey or RGB".into())),
    };
    let mut encoder = Compress::new(space);
    encoder.set_size(image.width() as usize, image.height() as usize);
    encoder.set_quality(header.quality());
    encoder.set_progressive_mode();
    encoder.set_optimize_scans(true);
    encoder.set_optimize_coding(true);
    if let Some(chroma) = header.chroma_pixel_size() {
        encoder.set_chroma_sampling_pixel_sizes(chroma, chroma);
    }
    let mut encoding = encoder.start_compress(Vec::new()).map_err(unreadable)?;
    if let Some(profile) = profile {
        encoding.write_icc_profile(profile);
    }
    if orientation != 1 {
        encoding.write_marker(Marker::APP(1), &header::exif_with(orientation));
    }
    encoding.write_scanlines(image.as_bytes()).map_err(unreadable)?;
    encoding.finish().map_err(unreadable)
}

fn unreadable(e: impl std::fmt::Display) -> Kept {
    Kept::Unreadable(e.to_string())
}
