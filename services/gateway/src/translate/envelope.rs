//! Messages with a prefix of their kind and length: the same five bytes in gRPC and in the Connect protocol.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::buffer::{Buffers, Held, MESSAGE_LIMIT, TooMuch};

const PREFIX: usize = 5;
/// The message is compressed.
pub(super) const COMPRESSED: u8 = 1;

/// A message in its envelope.
pub(super) fn wrap(kind: u8, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(kind);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(message);
    frame.freeze()
}

/// Where messages begin and end in a stream of bytes that passes.
#[derive(Debug, Default)]
pub(super) struct Boundary {
    prefix: [u8; PREFIX],
    have: usize,
    /// Of the message's own bytes.
    left: usize,
}

impl Boundary {
    /// Some bytes have passed.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            if let Some(byte) = self.prefix.get_mut(self.have) {
                *byte = *first;
            }
            self.have += 1;
            bytes = rest;
            if self.have == PREFIX {
                let [_, length @ ..] = self.prefix;
                (self.have, self.left) = (0, u32::from_be_bytes(length) as usize);
            }
        }
    }

    /// Whether the last message was whole: only then can something else follow.
    pub(super) const fn is_reached(&self) -> bool {
        self.have == 0 && self.left == 0
    }
}

/// A response that ends within a message, of which only the cut can tell where no frame of the transport does.
#[derive(Debug, thiserror::Error)]
#[error("the response ended within a message")]
pub(super) struct CutShort;

/// Messages out of a stream of bytes, held until they are whole.
#[derive(Debug)]
pub(super) struct Reader {
    bytes: BytesMut,
    held: Held,
}

impl Reader {
    pub(super) fn new(buffers: &Buffers) -> Self {
        Self { bytes: BytesMut::new(), held: buffers.hold() }
    }

    /// More of the stream. What is in one piece with it is taken even if the limit ends in it.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message and its kind, if all of it is there.
    pub(super) fn next(&mut self) -> Result<Option<(u8, Bytes)>, TooMuch> {
        self.held.set(self.bytes.len().min(MESSAGE_LIMIT))?;
        let Some([kind, length @ ..]) = self.bytes.first_chunk::<PREFIX>().copied() else { return Ok(None) };
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_LIMIT {
            return Err(TooMuch::Message);
        }
        if self.bytes.len() < PREFIX + length {
            return Ok(None);
        }
        self.bytes.advance(PREFIX);
        Ok(Some((kind, self.bytes.split_to(length).freeze())))
    }

    /// Whether it ends between two messages.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_that_is_too_large_is_refused_by_its_prefix() {
        let mut reader = Reader::new(&Buffers::default());
        reader.push(&Bytes::from_static(&[0, 0, 0x40, 0, 1]));
        assert!(matches!(reader.next(), Err(TooMuch::Message)));
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..50)), 0..6),
            cut in 1_usize..9,
        ) {
            let stream: Vec<u8> = messages.iter().flat_map(|(kind, message)| wrap(*kind, message)).collect();
            let (mut reader, mut read) = (Reader::new(&Buffers::default()), Vec::new());
            let (mut boundary, mut passed) = (Boundary::default(), 0);
            let ends: Vec<usize> = messages
                .iter()
                .scan(0, |end, (_, message)| {
                    *end += PREFIX + message.len();
                    Some(*end)
                })
                .collect();
            for part in stream.chunks(cut) {
                reader.push(&Bytes::copy_from_slice(part));
                while let Some((kind, message)) = reader.next().unwrap() {
                    read.push((kind, message.to_vec()));
                }
                boundary.pass(part);
                passed += part.len();
                prop_assert_eq!(boundary.is_reached(), ends.contains(&passed));
            }
            prop_assert!(reader.is_empty());
            prop_assert_eq!(read, messages);
        }
    }
}
