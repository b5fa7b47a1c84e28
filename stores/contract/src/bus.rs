//! Telling other processes what is not to be served any more.

use std::pin::Pin;

use futures_core::Stream;

use crate::{Error, KeyBuf, Reply, Result};

/// A channel on which every subscriber hears what any process publishes.
///
/// A bus need not be reliable. Messages may come late, twice, in another order, or never: each
/// carries its publisher, and a number that goes up by one, so that who listens can tell. What the
/// bus does know to be lost, because its connection broke or its queue was full, it must tell as
/// [`Lost`](Delivery::Lost).
pub trait Bus: Send + Sync {
    /// Sends a message to all subscribers, those of its publisher included. It returns when the
    /// medium has taken it; nobody waits for a subscriber.
    ///
    /// Cancel safety: a dropped reply leaves the message sent or not sent.
    fn publish<'a>(&'a self, message: &'a Message) -> Reply<'a, ()>;

    /// Begins to listen. What is published after the reply is heard, or told as lost.
    ///
    /// The stream reconnects by itself, and gives [`Lost`](Delivery::Lost) when it has: from then
    /// on it hears again. It ends when the store is closed.
    fn subscribe(&self) -> Reply<'_, Deliveries>;
}

/// What a subscriber hears, see [`Bus::subscribe`].
pub type Deliveries = Pin<Box<dyn Stream<Item = Delivery> + Send>>;

/// One thing that a subscriber hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A message, as it was published.
    Message(Message),
    /// Some messages may be missing before the next.
    Lost,
}

/// What is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who published it: a number drawn at random by each cache when it is built.
    pub publisher: u64,
    /// How often the publisher has begun to number anew.
    pub epoch: u64,
    /// The number of this message in its epoch, one more than that of the one before, from 1.
    pub sequence: u64,
    /// What it says.
    pub notice: Notice,
}

/// What a [`Message`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// Nothing but that the publisher is there.
    Beat,
    /// What is stored under these keys is not to be served. At most [`Message::KEYS_MAX`].
    Keys(Vec<KeyBuf>),
    /// Whatever is stored is to be checked before it is served.
    All,
    /// The publisher ends; nothing follows.
    Leave,
}

const VERSION: u8 = 1;
const BEAT: u8 = 0;
const KEYS: u8 = 1;
const ALL: u8 = 2;
const LEAVE: u8 = 3;

impl Message {
    /// The most keys that one message may name.
    pub const KEYS_MAX: usize = 256;

    /// The binary form, for a medium that carries bytes; [`decode`](Self::decode) reads it.
    ///
    /// # Format, version 1
    ///
    /// The version and the sort of notice (0 beat, 1 keys, 2 all, 3 leave), a byte each; publisher,
    /// epoch and sequence, little-endian of eight bytes each; for keys, until the end, each as its
    /// length, little-endian of two bytes, and its text.
    pub fn encode(&self) -> Vec<u8> {
        let (sort, keys) = match &self.notice {
            Notice::Beat => (BEAT, &[][..]),
            Notice::Keys(keys) => (KEYS, &keys[..]),
            Notice::All => (ALL, &[][..]),
            Notice::Leave => (LEAVE, &[][..]),
        };
        let mut bytes = vec![VERSION, sort];
        for number in [self.publisher, self.epoch, self.sequence] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for key in keys {
            #[allow(clippy::cast_possible_truncation)] // A key has at most 4,096 bytes.
            bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
            bytes.extend_from_slice(key.as_bytes());
        }
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote; anything else is `Corrupt`.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let malformed = || Error::corrupt("a message of the bus is malformed");
        let (&[version, sort], rest) = bytes.split_first_chunk().ok_or_else(malformed)?;
        if version != VERSION {
            return Err(Error::corrupt(format!(
                "a message of the bus has the unknown version {version}"
            )));
        }
        let (publisher, rest) = rest.split_first_chunk().ok_or_else(malformed)?;
        let (epoch, rest) = rest.split_first_chunk().ok_or_else(malformed)?;
        let (sequence, mut rest) = rest.split_first_chunk().ok_or_else(malformed)?;
        let mut keys = Vec::new();
        while let Some((len, more)) = rest.split_first_chunk() {
            let len = usize::from(u16::from_le_bytes(*len));
            let (text, more) = more.split_at_checked(len).ok_or_else(malformed)?;
            let text = std::str::from_utf8(text).map_err(|_| malformed())?;
            keys.push(KeyBuf::new(text).map_err(|_| malformed())?);
            rest = more;
        }
        if !rest.is_empty() || keys.len() > Self::KEYS_MAX {
            return Err(malformed());
        }
        let notice = match (sort, keys.is_empty()) {
            (BEAT, true) => Notice::Beat,
            (KEYS, _) => Notice::Keys(keys),
            (ALL, true) => Notice::All,
            (LEAVE, true) => Notice::Leave,
            _ => return Err(malformed()),
        };
        Ok(Self {
            publisher: u64::from_le_bytes(*publisher),
            epoch: u64::from_le_bytes(*epoch),
            sequence: u64::from_le_bytes(*sequence),
            notice,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(notice: Notice) -> Message {
        Message {
            publisher: 0x0102_0304_0506_0708,
            epoch: 9,
            sequence: u64::MAX,
            notice,
        }
    }

    fn keys(keys: &[&str]) -> Notice {
        let key = |key: &&str| KeyBuf::new(key).unwrap();
        Notice::Keys(keys.iter().map(key).collect())
    }

    #[test]
    fn every_message_is_read_as_it_was_written() {
        let long = "k".repeat(4096);
        for notice in [
            Notice::Beat,
            Notice::All,
            Notice::Leave,
            keys(&[]),
            keys(&["a", &long, "é"]),
        ] {
            let message = message(notice);
            assert_eq!(Message::decode(&message.encode()).unwrap(), message);
        }
    }

    #[test]
    fn whatever_is_cut_or_altered_is_refused() {
        let bytes = message(keys(&["ab", "c"])).encode();
        assert_eq!(&bytes[..3], &[1, 1, 8]);
        for len in 0..bytes.len() {
            // Whole keys may be missing at the end: the medium keeps the length.
            if let Ok(short) = Message::decode(&bytes[..len]) {
                assert!(matches!(&short.notice, Notice::Keys(keys) if keys.len() < 2));
            }
        }
        for altered in [
            [&[2], &bytes[1..]].concat(),
            [&[1, 7], &bytes[2..]].concat(),
            [&[1, 0], &bytes[2..]].concat(),
            [&bytes[..], &[0, 0]].concat(),
            [&bytes[..], &[1, 0, 0xff]].concat(),
        ] {
            assert!(Message::decode(&altered).unwrap_err().is_corrupt());
        }
        let many = message(keys(&["k"; Message::KEYS_MAX + 1]));
        assert!(Message::decode(&many.encode()).is_err());
    }
}
