//! PNG: the chunks of a file, without decoding its pixels (PNG, Third Edition, section 5).

use std::io::{ErrorKind, Read};

use flate2::Crc;

use super::{ContentError, Dimensions, too_many_pixels};

const SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";

/// Reads a file to its end chunk.
pub(super) fn check(mut reader: impl Read, max_pixels: u64) -> Result<Dimensions, ContentError> {
    let mut signature = [0; 8];
    fill(&mut reader, &mut signature)?;
    if signature != *SIGNATURE {
        return Err(ContentError::Mismatch("the bytes are not image/png".into()));
    }
    let header = chunk(&mut reader)?;
    let &[w0, w1, w2, w3, h0, h1, h2, h3, ..] = &header.start[..] else {
        return Err(broken("no header chunk"));
    };
    if &header.kind != b"IHDR" || header.length != 13 {
        return Err(broken("no header chunk"));
    }
    let dimensions = Dimensions {
        width: u32::from_be_bytes([w0, w1, w2, w3]),
        height: u32::from_be_bytes([h0, h1, h2, h3]),
    };
    too_many_pixels(dimensions, max_pixels)?;
    let mut has_data = false;
    loop {
        let chunk = chunk(&mut reader)?;
        match &chunk.kind {
            b"IDAT" => has_data = true,
            b"IEND" if has_data => return Ok(dimensions),
            b"IEND" => return Err(broken("no image data")),
            _ => {}
        }
    }
}

struct Chunk {
    kind: [u8; 4],
    length: u32,
    /// Its first 16 bytes.
    start: Vec<u8>,
}

fn chunk(reader: &mut impl Read) -> Result<Chunk, ContentError> {
    let mut head = [0; 8];
    fill(reader, &mut head)?;
    let [l0, l1, l2, l3, kind @ ..] = head;
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    if length > i32::MAX as u32 || !kind.iter().all(u8::is_ascii_alphabetic) {
        return Err(broken("a chunk's head is damaged"));
    }
    let mut crc = Crc::new();
    crc.update(&kind);
    let mut start = Vec::new();
    let mut buffer = [0; 8192];
    let mut left = length as usize;
    while left > 0 {
        let step = left.min(buffer.len());
        fill(reader, &mut buffer[..step])?;
        crc.update(&buffer[..step]);
        start.extend_from_slice(&buffer[..step.min(16 - start.len().min(16))]);
        left -= step;
    }
    let mut sum = [0; 4];
    fill(reader, &mut sum)?;
    // Decoders read past damage in chunks they may ignore; so do we.
    let is_critical = kind[0].is_ascii_uppercase();
    if is_critical && u32::from_be_bytes(sum) != crc.sum() {
        return Err(broken("a chunk's checksum is wrong"));
    }
    Ok(Chunk { kind, length, start })
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> Result<(), ContentError> {
    reader.read_exact(buffer).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => broken("it ends before its end"),
        _ => ContentError::Io(e),
    })
}

fn broken(what: &str) -> ContentError {
    ContentError::Mismatch(format!("the PNG is broken: {what}"))
}
