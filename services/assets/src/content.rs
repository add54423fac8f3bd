//! What uploaded bytes are, and whether they are what they are said to be.

use std::io::{self, BufRead, Read};

mod jpeg;
mod media_type;
mod png;
mod text;

pub use media_type::{Family, MediaType};

/// How far into a file its beginning is looked at.
const HEAD_BYTES: usize = 1024;

/// Dimensions of an image, from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dimensions {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

impl Dimensions {
    /// Width times height.
    #[must_use]
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// Why bytes are not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// They are not what the media type says, or too much of it.
    #[error("{0}")]
    Mismatch(String),
    /// They could not be read.
    #[error("an upload cannot be read back")]
    Io(#[from] io::Error),
}

/// Reads all bytes once, without decoding them, and says how large the image is if it is one.
///
/// A file with the beginning of one format may still be broken further on; what can be told in one pass is told.
pub fn check(
    mut reader: impl BufRead,
    media_type: &MediaType,
    max_pixels: u64,
) -> Result<Option<Dimensions>, ContentError> {
    let mut head = vec![0; HEAD_BYTES];
    let length = read_up_to(&mut reader, &mut head)?;
    head.truncate(length);
    let whole = io::Cursor::new(&head[..]).chain(reader);
    let family = media_type.family();
    let dimensions = match family {
        Family::Png => Some(png::check(whole, max_pixels)?),
        Family::Jpeg => Some(jpeg::check(whole, max_pixels)?),
        Family::Json => json(whole).map(|()| None)?,
        _ if family.is_text() && media_type.is_utf8() => text::check(whole, &head, family).map(|()| None)?,
        _ => None,
    };
    match family.magic() {
        Some(magic) if !magic.iter().any(|magic| magic.fits(&head)) => {
            Err(ContentError::Mismatch(format!("the bytes are not {media_type}")))
        }
        _ => Ok(dimensions),
    }
}

/// Bytes at the beginning of a format: some at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Magic {
    offset: usize,
    bytes: &'static [u8],
}

impl Magic {
    const fn at(offset: usize, bytes: &'static [u8]) -> Self {
        Self { offset, bytes }
    }

    fn fits(self, head: &[u8]) -> bool {
        head.get(self.offset..).is_some_and(|rest| rest.starts_with(self.bytes))
    }
}

fn json(reader: impl Read) -> Result<(), ContentError> {
    serde_json::from_reader::<_, serde::de::IgnoredAny>(io::BufReader::new(reader)).map(drop).map_err(|e| {
        if e.is_io() {
            ContentError::Io(e.into())
        } else {
            ContentError::Mismatch(format!("the bytes are not JSON: {e}"))
        }
    })
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..])? {
            0 => break,
            n => length += n,
        }
    }
    Ok(length)
}

fn too_many_pixels(dimensions: Dimensions, max_pixels: u64) -> Result<Dimensions, ContentError> {
    if dimensions.pixels() == 0 {
        return Err(ContentError::Mismatch("the image has no pixels".into()));
    }
    if dimensions.pixels() > max_pixels {
        let Dimensions { width, height } = dimensions;
        return Err(ContentError::Mismatch(format!(
            "the image has {width} x {height} pixels, more than the {max_pixels} allowed"
        )));
    }
    Ok(dimensions)
}

#[cfg(test)]
mod tests;
