//! Messages of gRPC: of a size, and in a stream with their number and the time at which they were sent.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// The largest message; what gRPC takes by default is four times as much.
pub(super) const MOST_BYTES: usize = 1 << 20;
/// Number and time.
pub(super) const STAMP_BYTES: usize = 16;
/// Flag and length.
const PREFIX_BYTES: usize = 5;

/// What came is not the next message of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled;

/// What a stream has received, however it was cut into pieces on the way.
#[derive(Debug, Default)]
pub(super) struct Received {
    pending: BytesMut,
    late_ms: Vec<f64>,
}

/// A message of so many zeros.
pub(super) fn plain(bytes: usize) -> Bytes {
    prefixed(bytes).into()
}

/// The message of this number, sent now. It has `bytes` bytes, but those of its stamp in any case.
pub(super) fn stamped(number: u64, bytes: usize) -> Bytes {
    let mut message = prefixed(bytes.max(STAMP_BYTES));
    if let Some(mut stamp) = message.get_mut(PREFIX_BYTES..) {
        stamp.put_u64(number);
        stamp.put_u64(now_nanos());
    }
    message.into()
}

fn prefixed(bytes: usize) -> Vec<u8> {
    let bytes = bytes.min(MOST_BYTES);
    let mut message = Vec::with_capacity(PREFIX_BYTES + bytes);
    message.put_u8(0);
    message.put_u32(bytes as u32);
    message.resize(PREFIX_BYTES + bytes, 0);
    message
}

/// The clock that all processes of a machine share; std's monotonic one cannot be written down. When it is set, the
/// messages that are under way in that moment are measured wrongly, and no others.
fn now_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

impl Received {
    /// Takes a piece, and measures the messages that it completes.
    ///
    /// # Errors
    /// When a message is compressed, too large, too small, or out of its turn. Nothing can be taken after it.
    pub(super) fn take(&mut self, piece: &[u8]) -> Result<(), Garbled> {
        self.pending.extend_from_slice(piece);
        let now = now_nanos();
        while let Some(mut message) = self.next()? {
            if message.get_u64() != self.late_ms.len() as u64 {
                return Err(Garbled);
            }
            self.late_ms.push(now.saturating_sub(message.get_u64()) as f64 / 1e6);
        }
        Ok(())
    }

    /// For each message that has come, the milliseconds since it was sent.
    pub(super) fn into_late_ms(self) -> Vec<f64> {
        self.late_ms
    }

    fn next(&mut self) -> Result<Option<BytesMut>, Garbled> {
        let Some([flag, length @ ..]) = self.pending.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let bytes = u32::from_be_bytes(*length) as usize;
        if *flag != 0 || !(STAMP_BYTES..=MOST_BYTES).contains(&bytes) {
            return Err(Garbled);
        }
        if self.pending.len() < PREFIX_BYTES + bytes {
            return Ok(None);
        }
        self.pending.advance(PREFIX_BYTES);
        Ok(Some(self.pending.split_to(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_size_and_its_length_before_it() {
        assert_eq!(*plain(0), [0; 5]);
        assert_eq!(*plain(3), [0, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!((stamped(0, 100).len(), stamped(0, 1).len()), (105, 21));
        assert_eq!(plain(usize::MAX).len(), 5 + MOST_BYTES);
    }

    #[test]
    fn messages_are_put_together_from_any_pieces() {
        let stream: Vec<u8> = (0..20).flat_map(|number| stamped(number, 40)).collect();
        for size in [1, 4, 7, 45, 46, 1000] {
            let mut received = Received::default();
            stream.chunks(size).for_each(|piece| assert_eq!(received.take(piece), Ok(())));
            let late = received.into_late_ms();
            assert!(late.len() == 20 && late.iter().all(|late| (0.0..60_000.0).contains(late)), "{late:?}");
        }
    }

    #[test]
    fn what_is_missing_is_not_counted_and_what_is_wrong_is_refused() {
        let mut received = Received::default();
        assert_eq!(received.take(&stamped(0, 100)), Ok(()));
        assert_eq!(received.take(&stamped(1, 100)[..104]), Ok(()));
        assert_eq!(received.into_late_ms().len(), 1);
        let compressed = [1, 0, 0, 0, 16];
        let too_large = [0, 255, 255, 255, 255];
        for wrong in [&stamped(1, 100), &plain(STAMP_BYTES - 1), &compressed[..], &too_large[..]] {
            assert_eq!(Received::default().take(wrong), Err(Garbled));
        }
    }
}
