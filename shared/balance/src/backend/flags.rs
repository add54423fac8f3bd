//! What decides whether a backend may be picked, in one word that a pick reads once.

use crate::health::Health;

/// The health, by its number.
const HEALTH: u32 = 0b11;
/// An operator takes it out of rotation.
pub(crate) const DRAINING: u32 = 1 << 2;
/// It refused a connection, and no check has passed since.
pub(crate) const REFUSED: u32 = 1 << 3;
/// It was ejected; whether its time is over is another word.
pub(crate) const EJECTED: u32 = 1 << 4;
/// It may be in slow start.
pub(crate) const SLOW: u32 = 1 << 5;
/// It has reported foreign load.
pub(crate) const FOREIGN: u32 = 1 << 6;

/// A snapshot of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u32);

impl Flags {
    /// Healthy and nothing else: the backend counts with its weight and its own calls alone.
    pub(crate) const PLAIN: Self = Self(Health::Healthy as u32);

    pub(crate) const fn health(self) -> Health {
        Health::from_u8((self.0 & HEALTH) as u8)
    }

    pub(crate) const fn with_health(self, health: Health) -> Self {
        Self(self.0 & !HEALTH | health as u32)
    }

    pub(crate) const fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }
}
