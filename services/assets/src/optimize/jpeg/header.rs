//! What of a JPEG's header decides how to encode it again.

/// Table of ITU-T T.81 Annex K.1, luminance, in zigzag order.
const ANNEX_K_LUMA: [u16; 64] = [
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40,
    58, 51, 61, 60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103,
    104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99,
];

/// The parts that matter.
#[derive(Debug, Clone)]
pub(super) struct Header {
    luma: [u16; 64],
    /// Horizontal and vertical sampling factors of each component.
    sampling: Vec<(u8, u8)>,
}

impl Header {
    /// Reads it; `None` for kinds that are better left alone (CMYK, RGB without transform, 12 bits, odd sampling).
    pub(super) fn read(jpeg: &[u8]) -> Option<Self> {
        let mut luma = None;
        let mut sampling = None;
        let mut rest = jpeg.strip_prefix(&[0xff, 0xd8])?;
        loop {
            let [0xff, marker, after @ ..] = rest else { return None };
            if *marker == 0xff {
                rest = &rest[1..];
                continue;
            }
            let length = usize::from(u16::from_be_bytes([*after.first()?, *after.get(1)?]));
            let segment = after.get(2..length)?;
            match marker {
                0xdb => luma = first_table(segment).or(luma),
                0xc0..=0xc2 => sampling = Some(components(segment)?),
                0xc3 | 0xc5..=0xc7 | 0xc9..=0xcf => return None,
                0xee if segment.starts_with(b"Adobe") && segment.get(11) == Some(&0) => return None,
                0xda => break,
                _ => {}
            }
            rest = after.get(length..)?;
        }
        let header = Self { luma: luma?, sampling: sampling? };
        header.is_common().then_some(header)
    }

    fn is_common(&self) -> bool {
        match self.sampling[..] {
            [_] => true,
            [(h, v), (1, 1), (1, 1)] => matches!((h, v), (1 | 2, 1 | 2)),
            _ => false,
        }
    }

    /// How many pixels share one chroma sample, across and down; `None` for grey images.
    pub(super) fn chroma_pixel_size(&self) -> Option<(u8, u8)> {
        (self.sampling.len() == 3).then(|| self.sampling[0])
    }

    /// The quality on libjpeg's scale whose table comes nearest to the file's own.
    pub(super) fn quality(&self) -> f32 {
        let distance = |quality: u16| -> u64 {
            let scale = if quality < 50 { 5000 / u64::from(quality) } else { 200 - 2 * u64::from(quality) };
            let scaled =
                ANNEX_K_LUMA.iter().map(|base| ((u64::from(*base) * scale + 50) / 100).clamp(1, 255));
            scaled.zip(self.luma).map(|(ours, theirs)| ours.abs_diff(u64::from(theirs))).sum()
        };
        (1..=100).min_by_key(|quality| distance(*quality)).map_or(90.0, f32::from)
    }
}

/// The 8-bit table 0 of a DQT segment, if it is there.
fn first_table(mut segment: &[u8]) -> Option<[u16; 64]> {
    while let Some((kind, after)) = segment.split_first() {
        let size = if kind >> 4 == 0 { 64 } else { 128 };
        let table = after.get(..size)?;
        if *kind == 0 {
            let mut luma = [0; 64];
            for (to, from) in luma.iter_mut().zip(table) {
                *to = u16::from(*from);
            }
            return Some(luma);
        }
        segment = &after[size..];
    }
    None
}

fn components(frame: &[u8]) -> Option<Vec<(u8, u8)>> {
    let [8, _, _, _, _, count, rest @ ..] = frame else { return None };
    let components = rest.chunks_exact(3).take(usize::from(*count));
    Some(components.map(|component| (component[1] >> 4, component[1] & 0xf)).collect())
}

/// An Exif block that holds an orientation and nothing else.
pub(super) fn exif_with(orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.push(orientation);
    exif.extend_from_slice(&[0; 6]);
    exif
}
