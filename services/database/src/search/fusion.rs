//! Reciprocal rank fusion (Cormack, Clarke, Büttcher, SIGIR 2009): scores of different kinds are not comparable, ranks
//! are.

use std::collections::HashMap;

use crate::repository::Ranked;

/// How little the first ranks stand out; the value of the paper.
const K: f32 = 60.0;

/// The best of several rankings taken together: each adds `1 / (k + rank)`. Of equals, the smaller id is first.
pub(super) fn fuse(rankings: &[Vec<Ranked>], limit: usize) -> Vec<Ranked> {
    let mut scores: HashMap<i64, f32> = HashMap::new();
    for ranking in rankings {
        let mut rank = K;
        for ranked in ranking {
            rank += 1.0;
            *scores.entry(ranked.chunk_id).or_default() += 1.0 / rank;
        }
    }
    let mut fused: Vec<_> = scores.into_iter().map(|(chunk_id, score)| Ranked { chunk_id, score }).collect();
    fused.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.chunk_id.cmp(&b.chunk_id)));
    fused.truncate(limit);
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranking(ids: &[i64]) -> Vec<Ranked> {
        ids.iter().map(|chunk_id| Ranked { chunk_id: *chunk_id, score: 0.0 }).collect()
    }

    #[test]
    fn what_both_rank_high_comes_first() {
        let fused = fuse(&[ranking(&[1, 2, 3]), ranking(&[4, 2, 5])], 10);
        let ids: Vec<_> = fused.iter().map(|ranked| ranked.chunk_id).collect();
        assert_eq!(ids, [2, 1, 4, 3, 5]);
        assert!((fused[0].score - 2.0 / 62.0).abs() < 1e-6);
        assert_eq!(fuse(&[ranking(&[1, 2, 3])], 2).len(), 2);
        assert!(fuse(&[], 2).is_empty());
    }
}
