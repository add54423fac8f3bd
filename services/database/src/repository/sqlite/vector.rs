//! Exact nearest neighbours: one pass over the owner's embeddings, the best kept in a heap.

use std::{cmp::Reverse, collections::BinaryHeap, ops::DerefMut};

use sqlx::{Row as _, SqliteConnection};

use super::{SqliteSession, failed};
use crate::{
    error::Error,
    params,
    repository::{Query, Ranked},
};

const FLOAT: usize = size_of::<f32>();
/// Sums kept side by side, so that the compiler can use vector instructions.
const LANES: usize = 8;

pub(super) async fn nearest<C>(
    session: &mut SqliteSession<C>,
    owner: &str,
    embedding: &[f32],
    limit: usize,
) -> Result<Vec<Ranked>, Error>
where
    C: DerefMut<Target = SqliteConnection> + Send,
{
    let mut best = Best::new(limit);
    let width = embedding.len() * FLOAT;
    let scan = session.each(Query::ChunkVectorScan, params![owner], |row| {
        let first: i64 = row.try_get(0).map_err(|error| failed("read an id", error))?;
        let blob: &[u8] = row.try_get(1).map_err(|error| failed("read embeddings", error))?;
        for (chunk_id, vector) in (first..).zip(blob.chunks_exact(width)) {
            best.offer(Ranked { chunk_id, score: dot(embedding, vector) });
        }
        Ok(())
    });
    scan.await?;
    Ok(best.into_sorted())
}

/// Embeddings one after the other, little-endian.
pub(super) fn bytes(vectors: &[Vec<f32>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(vectors.iter().map(Vec::len).sum::<usize>() * FLOAT);
    for value in vectors.iter().flatten() {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// The inner product with a stored embedding of the same dimension.
fn dot(a: &[f32], b: &[u8]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES * FLOAT));
    let (a_rest, b_rest) = (a_chunks.remainder(), b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * float(b, lane);
        }
    }
    let rest: f32 = a_rest.iter().enumerate().map(|(index, a)| a * float(b_rest, index)).sum();
    sums.iter().sum::<f32>() + rest
}

fn float(bytes: &[u8], index: usize) -> f32 {
    let at = index * FLOAT;
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The best of what was offered; of equals, the ones with the smaller id.
struct Best {
    limit: usize,
    /// The worst kept one is on top.
    heap: BinaryHeap<Reverse<(OrderedScore, Reverse<i64>)>>,
}

#[derive(Clone, Copy, PartialEq)]
struct OrderedScore(f32);

impl Eq for OrderedScore {}

impl PartialOrd for OrderedScore {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OrderedScore {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Best {
    fn new(limit: usize) -> Self {
        Self { limit, heap: BinaryHeap::with_capacity(limit + 1) }
    }

    fn offer(&mut self, ranked: Ranked) {
        let entry = Reverse((OrderedScore(ranked.score), Reverse(ranked.chunk_id)));
        if self.heap.len() < self.limit {
            self.heap.push(entry);
        } else if self.heap.peek().is_some_and(|worst| entry < *worst) {
            self.heap.pop();
            self.heap.push(entry);
        }
    }

    fn into_sorted(self) -> Vec<Ranked> {
        let sorted = self.heap.into_sorted_vec().into_iter();
        sorted.map(|Reverse((score, Reverse(chunk_id)))| Ranked { chunk_id, score: score.0 }).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_product_is_that_of_the_plain_sum(
            pairs in proptest::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0), 0..67)
        ) {
            let (a, b): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let plain: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            prop_assert!((dot(&a, &bytes(&[b])) - plain).abs() < 1e-4);
        }

        #[test]
        fn the_best_are_those_of_a_full_sort(scores in proptest::collection::vec(0_u8..20, 0..60), limit in 1_usize..12) {
            let mut best = Best::new(limit);
            let mut all: Vec<_> = (0_i64..)
                .zip(scores)
                .map(|(chunk_id, score)| Ranked { chunk_id, score: f32::from(score) })
                .collect();
            for ranked in &all {
                best.offer(*ranked);
            }
            all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.chunk_id.cmp(&b.chunk_id)));
            all.truncate(limit);
            prop_assert_eq!(best.into_sorted(), all);
        }
    }
}
