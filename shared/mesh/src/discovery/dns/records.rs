//! What SRV records mean (RFC 2782), and where a name is looked for (resolv.conf(5)). Pure.

use std::collections::BTreeSet;

use hickory_resolver::proto::rr::{Name, rdata::SRV};
use weft_balance::MAX_WEIGHT;

/// The names to try for a name, in order, each absolute.
pub(super) fn candidates(name: &Name, search: &[Name], ndots: usize) -> Vec<Name> {
    if name.is_fqdn() {
        return vec![name.clone()];
    }
    let absolute = |mut name: Name| {
        name.set_fqdn(true);
        name
    };
    let itself = absolute(name.clone());
    let within = search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).map(absolute);
    // As many dots as `ndots` make a name that is likely complete.
    if usize::from(name.num_labels()) > ndots {
        std::iter::once(itself).chain(within).collect()
    } else {
        within.chain([itself]).collect()
    }
}

/// The weights of records, in their order, brought into 1 to [`MAX_WEIGHT`] with their proportions kept. A record of
/// weight 0 gets as little as there is.
pub(super) fn weights(records: &[SRV]) -> Vec<u32> {
    let largest = records.iter().map(|record| u32::from(record.weight)).max().unwrap_or_default();
    let scale = |weight: u32| if largest > MAX_WEIGHT { weight * MAX_WEIGHT / largest } else { weight };
    records.iter().map(|record| scale(u32::from(record.weight)).max(1)).collect()
}

/// The tiers of records, in their order: the lowest priority, which comes first, is tier 0, the next one tier 1.
pub(super) fn tiers(records: &[SRV]) -> Vec<u8> {
    let priorities: BTreeSet<u16> = records.iter().map(|record| record.priority).collect();
    let rank = |priority| priorities.iter().take_while(|other| **other < priority).count();
    records.iter().map(|record| u8::try_from(rank(record.priority)).unwrap_or(u8::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &str) -> Vec<Name> {
        texts.split_whitespace().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn names_are_looked_for_where_the_resolver_configuration_says() {
        let search = names("shop.svc. example.org.");
        let find = |name: &str, ndots| candidates(&name.parse().unwrap(), &search, ndots);
        assert_eq!(find("cache", 1), names("cache.shop.svc. cache.example.org. cache."));
        assert_eq!(find("cache.web", 1), names("cache.web. cache.web.shop.svc. cache.web.example.org."));
        assert_eq!(find("cache.web", 5), names("cache.web.shop.svc. cache.web.example.org. cache.web."));
        assert_eq!(find("cache.web.", 5), names("cache.web."));
    }

    #[test]
    fn priorities_are_tiers_in_their_order() {
        let records = [20, 10, 20, 65_535].map(|priority| SRV::new(priority, 1, 1, Name::root()));
        assert_eq!(tiers(&records), [1, 0, 1, 2]);
    }

    #[test]
    fn weights_keep_their_proportions() {
        let weights = |list: &[u16]| {
            let records: Vec<_> = list.iter().map(|weight| SRV::new(0, *weight, 1, Name::root())).collect();
            weights(&records)
        };
        assert_eq!(weights(&[0, 1, 1000]), [1, 1, 1000]);
        assert_eq!(weights(&[10, 20_000, 40_000]), [1, 500, 1000]);
        assert_eq!(weights(&[0, 0]), [1, 1]);
    }
}
