//! The backends of a pool at one time, and what follows from who they are.

use std::sync::{Arc, atomic::AtomicU64};

use crate::{backend::Backend, settings::Settings};

/// Backends and settings, swapped as a whole. Picks that have begun end with the one they began with.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) backends: Arc<[Arc<Backend>]>,
    pub(crate) settings: Settings,
    /// Lowest first; one even if there are no backends.
    pub(crate) tiers: Box<[Tier]>,
}

/// The backends of one priority.
#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) level: u8,
    /// How many there are, in whatever state.
    pub(crate) total: usize,
    /// How far its rounds have come, with [`Policy::RoundRobin`](crate::Policy::RoundRobin).
    pub(crate) round: Arc<AtomicU64>,
}

impl List {
    /// The next list; rounds go on where those of `before` are.
    pub(crate) fn new(backends: Arc<[Arc<Backend>]>, settings: Settings, before: Option<&Self>) -> Arc<Self> {
        let mut levels: Vec<u8> = backends.iter().map(|backend| backend.tier()).collect();
        levels.sort_unstable();
        levels.dedup();
        if levels.is_empty() {
            levels.push(0);
        }
        let tier = |level| Tier {
            level,
            total: backends.iter().filter(|backend| backend.tier() == level).count(),
            round: before.and_then(|before| before.round(level)).unwrap_or_default(),
        };
        let tiers = levels.into_iter().map(tier).collect();
        Arc::new(Self { backends, settings, tiers })
    }

    fn round(&self, level: u8) -> Option<Arc<AtomicU64>> {
        self.tiers.iter().find(|tier| tier.level == level).map(|tier| Arc::clone(&tier.round))
    }
}
