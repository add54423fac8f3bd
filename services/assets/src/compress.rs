//! Content codings made ahead of time: `br`, `zstd`, `gzip`.

use std::io::Write as _;

use flate2::{Compression, GzBuilder};

/// Up to this size the slowest and best levels are worth their time, seconds at most.
const BEST_UP_TO_BYTES: usize = 2 * 1024 * 1024;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// The bytes as they are.
    Identity,
    /// RFC 7932.
    Br,
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
}

impl Encoding {
    /// All that compress.
    pub const COMPRESSING: [Self; 3] = [Self::Br, Self::Zstd, Self::Gzip];

    /// As in `Content-Encoding`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// Compresses; the same input gives the same output. `None` when that is no smaller.
#[must_use]
pub fn compress(encoding: Encoding, bytes: &[u8]) -> Option<Vec<u8>> {
    let best = bytes.len() <= BEST_UP_TO_BYTES;
    let compressed = match encoding {
        Encoding::Identity => return None,
        Encoding::Br => brotli(bytes, if best { 11 } else { 6 }),
        Encoding::Zstd => zstd::bulk::compress(bytes, if best { 19 } else { 9 }),
        Encoding::Gzip => gzip(bytes, if best { 9 } else { 6 }),
    };
    compressed.ok().filter(|compressed| compressed.len() < bytes.len())
}

fn brotli(bytes: &[u8], quality: i32) -> std::io::Result<Vec<u8>> {
    let params =
        brotli::enc::BrotliEncoderParams { quality, lgwin: 22, size_hint: bytes.len(), ..Default::default() };
    let mut out = Vec::new();
    brotli::BrotliCompress(&mut &bytes[..], &mut out, &params)?;
    Ok(out)
}

fn gzip(bytes: &[u8], level: u32) -> std::io::Result<Vec<u8>> {
    // No name and no time: only the bytes decide.
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::new(level));
    writer.write_all(bytes)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn every_coding_decodes_to_what_went_in_and_is_deterministic() {
        let text = "the quick brown fox jumps over the lazy dog; ".repeat(200);
        for encoding in Encoding::COMPRESSING {
            let small = compress(encoding, text.as_bytes()).unwrap();
            assert_eq!(compress(encoding, text.as_bytes()).unwrap(), small);
            assert!(small.len() < text.len() / 4);
            let mut back = Vec::new();
            match encoding {
                Encoding::Br => brotli::BrotliDecompress(&mut &small[..], &mut back).unwrap(),
                Encoding::Zstd => back = zstd::decode_all(&small[..]).unwrap(),
                Encoding::Gzip => {
                    let mut decoder = flate2::read::GzDecoder::new(&small[..]);
                    decoder.read_to_end(&mut back).unwrap();
                }
                Encoding::Identity => unreachable!(),
            }
            assert_eq!(back, text.as_bytes());
        }
    }

    #[test]
    fn what_does_not_shrink_is_not_kept() {
        let noise: Vec<u8> =
            (0..64_u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
        for encoding in Encoding::COMPRESSING {
            assert_eq!(compress(encoding, &noise), None, "{encoding:?}");
        }
    }
}
