//! JPEG: the markers of a file, without decoding its pixels (ITU-T T.81, annex B).

use std::io::{BufRead, ErrorKind, Read};

use super::{ContentError, Dimensions, too_many_pixels};

/// Reads a file to its end marker.
pub(super) fn check(mut reader: impl BufRead, max_pixels: u64) -> Result<Dimensions, ContentError> {
    let mut start = [0; 2];
    fill(&mut reader, &mut start)?;
    if start != [0xff, 0xd8] {
        return Err(ContentError::Mismatch("the bytes are not image/jpeg".into()));
    }
    let mut dimensions = None;
    let mut has_scan = false;
    let mut next = marker(&mut reader)?;
    loop {
        match next {
            0xd9 => break,
            // Restart markers and TEM stand alone.
            0xd0..=0xd7 | 0x01 => next = marker(&mut reader)?,
            0xda => {
                segment(&mut reader)?;
                has_scan = true;
                next = scan(&mut reader)?;
            }
            0xc0..=0xcf if !matches!(next, 0xc4 | 0xc8 | 0xcc) => {
                let frame = segment(&mut reader)?;
                let &[_, h0, h1, w0, w1, ..] = &frame[..] else { return Err(broken("its frame is damaged")) };
                let size = |a, b| u32::from(u16::from_be_bytes([a, b]));
                let found = Dimensions { width: size(w0, w1), height: size(h0, h1) };
                dimensions = Some(too_many_pixels(found, max_pixels)?);
                next = marker(&mut reader)?;
            }
            _ => {
                segment(&mut reader)?;
                next = marker(&mut reader)?;
            }
        }
    }
    match dimensions {
        Some(dimensions) if has_scan => Ok(dimensions),
        _ => Err(broken("it has no image")),
    }
}

/// The next marker, which must follow at once, but for fill bytes.
fn marker(reader: &mut impl Read) -> Result<u8, ContentError> {
    let mut byte = [0];
    fill(reader, &mut byte)?;
    if byte != [0xff] {
        return Err(broken("a marker is missing"));
    }
    while byte == [0xff] {
        fill(reader, &mut byte)?;
    }
    Ok(byte[0])
}

fn segment(reader: &mut impl Read) -> Result<Vec<u8>, ContentError> {
    let mut length = [0; 2];
    fill(reader, &mut length)?;
    let Some(length) = usize::from(u16::from_be_bytes(length)).checked_sub(2) else {
        return Err(broken("a segment's length is wrong"));
    };
    let mut segment = vec![0; length];
    fill(reader, &mut segment)?;
    Ok(segment)
}

/// Skips entropy-coded data up to the marker that ends it.
fn scan(reader: &mut impl BufRead) -> Result<u8, ContentError> {
    let mut after_ff = false;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Err(broken("it ends before its end"));
        }
        let mut used = 0;
        let mut found = None;
        for byte in buffer {
            used += 1;
            match (after_ff, byte) {
                (true, 0x00 | 0xd0..=0xd7) => after_ff = false,
                (_, 0xff) => after_ff = true,
                (true, marker) => {
                    found = Some(*marker);
                    break;
                }
                (false, _) => {}
            }
        }
        reader.consume(used);
        if let Some(marker) = found {
            return Ok(marker);
        }
    }
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> Result<(), ContentError> {
    reader.read_exact(buffer).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => broken("it ends before its end"),
        _ => ContentError::Io(e),
    })
}

fn broken(what: &str) -> ContentError {
    ContentError::Mismatch(format!("the JPEG is broken: {what}"))
}
