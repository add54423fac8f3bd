//! How alike two images are.

use image::DynamicImage;

/// Side of the blocks over which structure is compared.
const BLOCK: usize = 8;

/// Two measures: one of the error, one of the structure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::optimize) struct Similarity {
    /// Peak signal-to-noise ratio over all samples, in decibels.
    pub(in crate::optimize) psnr: f64,
    /// Mean structural similarity (Wang et al. 2004) of luminance, over blocks of 8 × 8.
    pub(in crate::optimize) ssim: f64,
}

/// Compares two images; `None` when they differ in size or kind.
pub(in crate::optimize) fn of(before: &DynamicImage, after: &DynamicImage) -> Option<Similarity> {
    let same = before.color() == after.color()
        && (before.width(), before.height()) == (after.width(), after.height());
    same.then(|| Similarity {
        psnr: psnr(before.as_bytes(), after.as_bytes()),
        ssim: ssim(&luma(before), &luma(after), before.width() as usize),
    })
}

fn psnr(before: &[u8], after: &[u8]) -> f64 {
    let squared = |(a, b): (&u8, &u8)| u64::from(a.abs_diff(*b)).pow(2);
    let error: u64 = before.iter().zip(after).map(squared).sum();
    if error == 0 {
        return f64::INFINITY;
    }
    10.0 * (255.0 * 255.0 * before.len() as f64 / error as f64).log10()
}

fn luma(image: &DynamicImage) -> Vec<u8> {
    match image {
        DynamicImage::ImageRgb8(rgb) => rgb
            .pixels()
            .map(|p| ((77 * u32::from(p[0]) + 150 * u32::from(p[1]) + 29 * u32::from(p[2])) >> 8) as u8)
            .collect(),
        other => other.to_luma8().into_raw(),
    }
}

fn ssim(before: &[u8], after: &[u8], width: usize) -> f64 {
    let (mut sum, mut blocks) = (0.0, 0.0);
    let rows = BLOCK * width.max(1);
    for (a, b) in before.chunks(rows).zip(after.chunks(rows)) {
        for left in (0..width).step_by(BLOCK) {
            sum += block_ssim(a, b, width, left);
            blocks += 1.0;
        }
    }
    if blocks == 0.0 { 1.0 } else { sum / blocks }
}

/// One block of at most 8 × 8 out of a band of rows.
fn block_ssim(a: &[u8], b: &[u8], width: usize, left: usize) -> f64 {
    let (mut n, mut sa, mut sb, mut saa, mut sbb, mut sab) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (a, b) in a.chunks(width).zip(b.chunks(width)) {
        for (a, b) in a.iter().zip(b).skip(left).take(BLOCK) {
            let (a, b) = (f64::from(*a), f64::from(*b));
            n += 1.0;
            sa += a;
            sb += b;
            saa += a * a;
            sbb += b * b;
            sab += a * b;
        }
    }
    let (ma, mb) = (sa / n, sb / n);
    let (va, vb, cov) = (saa / n - ma * ma, sbb / n - mb * mb, sab / n - ma * mb);
    let (c1, c2) = ((0.01 * 255.0_f64).powi(2), (0.03 * 255.0_f64).powi(2));
    (2.0 * ma * mb + c1) * (2.0 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_image_is_the_same_and_noise_is_not() {
        let image = DynamicImage::ImageRgb8(image::RgbImage::from_fn(37, 21, |x, y| {
            image::Rgb([(x * 7) as u8, (y * 11) as u8, ((x * y) % 256) as u8])
        }));
        let same = of(&image, &image).unwrap();
        assert_eq!(same.psnr, f64::INFINITY);
        assert!((same.ssim - 1.0).abs() < 1e-9);
        let inverted = DynamicImage::ImageRgb8(image::RgbImage::from_fn(37, 21, |x, y| {
            let p = image.to_rgb8().get_pixel(x, y).0;
            image::Rgb([255 - p[0], 255 - p[1], 255 - p[2]])
        }));
        let other = of(&image, &inverted).unwrap();
        assert!(other.psnr < 20.0 && other.ssim < 0.5, "{other:?}");
        assert_eq!(of(&image, &image.to_luma8().into()), None);
    }
}
