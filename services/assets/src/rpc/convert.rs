//! Domain values as messages.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use weft_proto::assets::v1 as pb;

use crate::{
    catalog::{Asset, Visibility},
    metrics::OptimizerTotals,
    optimize::Kind,
};

pub(super) fn asset(asset: Asset) -> pb::Asset {
    let Asset { record, manifest } = asset;
    let visibility = match record.visibility {
        Visibility::Private => pb::Visibility::Private,
        Visibility::Public => pb::Visibility::Public,
    };
    let variants = manifest.into_iter().flat_map(|manifest| manifest.variants).map(|variant| pb::Variant {
        encoding: variant.encoding.as_str().to_owned(),
        optimized: variant.optimized,
        size_bytes: variant.size_bytes,
    });
    pb::Asset {
        id: record.id,
        name: record.name,
        content_type: record.content_type,
        visibility: visibility.into(),
        tags: record.tags,
        size_bytes: record.size_bytes,
        created_at: Some(prost_types::Timestamp {
            seconds: record.created_at.as_second(),
            nanos: record.created_at.subsec_nanosecond(),
        }),
        variants: variants.collect(),
    }
}

pub(super) fn optimizer(kind: Kind, totals: &OptimizerTotals) -> pb::OptimizerStats {
    pb::OptimizerStats {
        kind: kind.as_str().to_owned(),
        runs: totals.runs.load(Relaxed),
        kept: totals.kept.load(Relaxed),
        input_bytes: totals.input_bytes.load(Relaxed),
        output_bytes: totals.output_bytes.load(Relaxed),
    }
}

/// Cuts a chunk into pieces of at most `most` bytes, without copying.
pub(super) fn pieces(mut chunk: Bytes, most: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let length = chunk.len().min(most);
        (length > 0).then(|| chunk.split_to(length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_the_chunk() {
        let chunk = Bytes::from((0..=255).collect::<Vec<u8>>());
        let cut: Vec<_> = pieces(chunk.clone(), 100).collect();
        assert_eq!(cut.iter().map(Bytes::len).collect::<Vec<_>>(), [100, 100, 56]);
        assert_eq!(cut.concat(), chunk);
        assert_eq!(pieces(Bytes::new(), 100).count(), 0);
    }
}
