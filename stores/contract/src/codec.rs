//! The binary form of a header, for stores that keep it outside of memory. The format is told
//! byte by byte at [`Header::encode`].
//!
//! Invariant: each header has exactly one form. Whatever `decode` accepts, `encode` writes again
//! byte for byte; so a flipped bit is refused or is another header, never two spellings of one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{EntityTag, Error, ErrorKind, Header, Result, Timestamp};

/// Never 0, so that zeroed bytes are no header.
const VERSION: u16 = 1;
const VERSION_MASK: u16 = 0b1111;

const ETAG: u16 = 1 << 4;
const ETAG_WEAK: u16 = 1 << 5;
const LAST_MODIFIED: u16 = 1 << 6;
const CONTENT_TYPE: u16 = 1 << 7;
const TTL: u16 = 1 << 8;
const STALE_WHILE_REVALIDATE: u16 = 1 << 9;
const STALE_IF_ERROR: u16 = 1 << 10;
const EXPIRES_AT: u16 = 1 << 11;
const ABSENT: u16 = 1 << 12;
const TAGS: u16 = 1 << 13;
const ATTRIBUTES: u16 = 1 << 14;
const GENERATION: u16 = 1 << 15;

impl Header {
    /// Appends the binary form of the header, which [`decode`](Self::decode) reads.
    ///
    /// It has neither a length nor a checksum of its own: the store that keeps it adds what its
    /// medium needs. Equal headers have equal forms. One with a `fetched_at` and a `ttl` alone
    /// takes about ten bytes.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use larder_store::{Header, Timestamp};
    ///
    /// let mut header = Header::default();
    /// header.fetched_at = Timestamp::from_millis(1_767_225_600_000);
    /// header.ttl = Some(Duration::from_secs(60));
    ///
    /// let mut bytes = Vec::new();
    /// header.encode(&mut bytes);
    /// assert_eq!(bytes.len(), 10);
    /// assert_eq!(Header::decode(&bytes)?, header);
    /// # Ok::<(), larder_store::Error>(())
    /// ```
    ///
    /// # Format, version 1
    ///
    /// The first two bytes are a little-endian number. Its bits, from the lowest:
    ///
    /// | Bits | Meaning |
    /// |------|---------|
    /// | 0–3  | the version, 1 |
    /// | 4    | `etag` is there |
    /// | 5    | the `etag` is weak; only with bit 4 |
    /// | 6    | `last_modified` is there |
    /// | 7    | `content_type` is there |
    /// | 8    | `ttl` is there |
    /// | 9    | `stale_while_revalidate` is there, which is to say not zero |
    /// | 10   | `stale_if_error` is there, which is to say not zero |
    /// | 11   | `expires_at` is there |
    /// | 12   | `absent` |
    /// | 13   | `tags` are there, at least one |
    /// | 14   | `attributes` are there, at least one |
    /// | 15   | `generation` is there, which is to say not zero |
    ///
    /// After them come the fields that are there, in this order, with nothing between:
    ///
    /// | Field | Form |
    /// |-------|------|
    /// | `etag` | text, without quotes |
    /// | `last_modified` | timestamp |
    /// | `content_type` | text |
    /// | `fetched_at` | timestamp; always there |
    /// | `ttl` | duration |
    /// | `stale_while_revalidate` | duration |
    /// | `stale_if_error` | duration |
    /// | `expires_at` | timestamp |
    /// | `generation` | number |
    /// | `tags` | their count, then for each a text |
    /// | `attributes` | their count, then for each its name, a text, and its value, a blob |
    ///
    /// A number is an unsigned LEB128 of at most 64 bits in its shortest form; a count is one. A
    /// timestamp is a number, the milliseconds since the Unix epoch. A duration is two: its
    /// seconds, then its nanoseconds, below 1,000,000,000. A blob is its length, a number of that
    /// form, and as many bytes; a text is a blob of UTF-8.
    pub fn encode(&self, into: &mut Vec<u8>) {
        // Without `..`, so that a new field cannot be forgotten here.
        let Self {
            etag,
            last_modified,
            content_type,
            fetched_at,
            ttl,
            stale_while_revalidate,
            stale_if_error,
            expires_at,
            generation,
            absent: _, // a flag alone
            tags,
            attributes,
        } = self;
        into.reserve(self.size());
        into.extend_from_slice(&flags(self).to_le_bytes());
        if let Some(tag) = etag {
            put_blob(into, tag.opaque().as_bytes());
        }
        if let Some(at) = last_modified {
            put_number(into, at.as_millis());
        }
        if let Some(text) = content_type {
            put_blob(into, text.as_bytes());
        }
        put_number(into, fetched_at.as_millis());
        if let Some(ttl) = ttl {
            put_duration(into, *ttl);
        }
        for grace in [stale_while_revalidate, stale_if_error] {
            if !grace.is_zero() {
                put_duration(into, *grace);
            }
        }
        if let Some(at) = expires_at {
            put_number(into, at.as_millis());
        }
        if *generation != 0 {
            put_number(into, *generation);
        }
        if !tags.is_empty() {
            put_number(into, tags.len() as u64);
        }
        for tag in tags {
            put_blob(into, tag.as_bytes());
        }
        if !attributes.is_empty() {
            put_number(into, attributes.len() as u64);
        }
        for (name, value) in attributes {
            put_blob(into, name.as_bytes());
            put_blob(into, value);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; `bytes` must be that and nothing more.
    ///
    /// Anything else is `Corrupt`, a version that this release does not know included. Texts and
    /// values are copied, so that none keeps `bytes` alive; a header without any allocates
    /// nothing. What the bytes claim is checked before memory is taken for it: that stays in
    /// proportion to the length of `bytes`. Whether the header is within
    /// [`METADATA_LEN_MAX`](crate::METADATA_LEN_MAX) is not checked.
    ///
    /// ```
    /// use larder_store::Header;
    ///
    /// assert_eq!(Header::decode(&[1, 0, 0])?, Header::default());
    /// assert!(Header::decode(&[1, 0, 0, 0]).unwrap_err().is_corrupt());
    /// # Ok::<(), larder_store::Error>(())
    /// ```
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        let flags = reader.flags()?;
        let has = |flag| flags & flag != 0;
        // The fields are read in the order in which they stand here.
        let header = Self {
            etag: reader.optional(has(ETAG), |reader| reader.etag(has(ETAG_WEAK)))?,
            last_modified: reader.optional(has(LAST_MODIFIED), Reader::timestamp)?,
            content_type: reader.optional(has(CONTENT_TYPE), Reader::shared_text)?,
            fetched_at: reader.timestamp()?,
            ttl: reader.optional(has(TTL), Reader::duration)?,
            stale_while_revalidate: reader
                .optional(has(STALE_WHILE_REVALIDATE), Reader::grace)?
                .unwrap_or_default(),
            stale_if_error: reader
                .optional(has(STALE_IF_ERROR), Reader::grace)?
                .unwrap_or_default(),
            expires_at: reader.optional(has(EXPIRES_AT), Reader::timestamp)?,
            generation: reader
                .optional(has(GENERATION), Reader::generation)?
                .unwrap_or_default(),
            absent: has(ABSENT),
            // A tag takes at least its length's byte, an attribute two of them.
            tags: reader
                .optional(has(TAGS), |reader| reader.list(1, Reader::shared_text))?
                .unwrap_or_default(),
            attributes: reader
                .optional(has(ATTRIBUTES), |reader| reader.list(2, Reader::attribute))?
                .unwrap_or_default(),
        };
        if !reader.0.is_empty() {
            return Err(Error::corrupt("bytes follow the end of the header"));
        }
        Ok(header)
    }
}

fn flags(header: &Header) -> u16 {
    let weak = header.etag.as_ref().is_some_and(EntityTag::is_weak);
    [
        (ETAG, header.etag.is_some()),
        (ETAG_WEAK, weak),
        (LAST_MODIFIED, header.last_modified.is_some()),
        (CONTENT_TYPE, header.content_type.is_some()),
        (TTL, header.ttl.is_some()),
        (
            STALE_WHILE_REVALIDATE,
            !header.stale_while_revalidate.is_zero(),
        ),
        (STALE_IF_ERROR, !header.stale_if_error.is_zero()),
        (EXPIRES_AT, header.expires_at.is_some()),
        (GENERATION, header.generation != 0),
        (ABSENT, header.absent),
        (TAGS, !header.tags.is_empty()),
        (ATTRIBUTES, !header.attributes.is_empty()),
    ]
    .into_iter()
    .filter(|(_, is_set)| *is_set)
    .fold(VERSION, |flags, (flag, _)| flags | flag)
}

fn put_number(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    into.push((number & 0x7f) as u8);
}

fn put_duration(into: &mut Vec<u8>, duration: Duration) {
    put_number(into, duration.as_secs());
    put_number(into, duration.subsec_nanos().into());
}

fn put_blob(into: &mut Vec<u8>, blob: &[u8]) {
    put_number(into, blob.len() as u64);
    into.extend_from_slice(blob);
}

/// The bytes that are still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn flags(&mut self) -> Result<u16> {
        let flags = u16::from_le_bytes([self.byte()?, self.byte()?]);
        let version = flags & VERSION_MASK;
        if version != VERSION {
            return Err(Error::corrupt(format!(
                "the header has the unknown version {version}"
            )));
        }
        if flags & (ETAG | ETAG_WEAK) == ETAG_WEAK {
            return Err(Error::corrupt("the header has unknown flags"));
        }
        Ok(flags)
    }

    fn optional<T>(
        &mut self,
        is_there: bool,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        is_there.then(|| read(self)).transpose()
    }

    fn list<T>(
        &mut self,
        item_len_min: usize,
        read: impl Fn(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.len()?;
        if count == 0 {
            return Err(Error::corrupt("the header has an empty list"));
        }
        // Before anything is allocated: what cannot fit in the rest is not believed.
        if count > self.0.len() / item_len_min {
            return Err(ends_early());
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    fn attribute(&mut self) -> Result<(Arc<str>, Bytes)> {
        Ok((self.shared_text()?, Bytes::copy_from_slice(self.blob()?)))
    }

    fn etag(&mut self, weak: bool) -> Result<EntityTag> {
        let text = self.text()?;
        let tag = if weak {
            EntityTag::weak(text)
        } else {
            EntityTag::strong(text)
        };
        tag.map_err(|error| {
            let message = "the header has an invalid entity tag";
            Error::with_source(ErrorKind::Corrupt, message, error)
        })
    }

    fn timestamp(&mut self) -> Result<Timestamp> {
        self.number().map(Timestamp::from_millis)
    }

    /// A duration for which a flag stands only when it is not zero.
    fn grace(&mut self) -> Result<Duration> {
        let grace = self.duration()?;
        if grace.is_zero() {
            return Err(Error::corrupt("the header spells out a zero duration"));
        }
        Ok(grace)
    }

    /// A generation, for which a flag stands only when there is one.
    fn generation(&mut self) -> Result<u64> {
        match self.number()? {
            0 => Err(Error::corrupt("the header spells out generation zero")),
            generation => Ok(generation),
        }
    }

    fn duration(&mut self) -> Result<Duration> {
        let seconds = self.number()?;
        match u32::try_from(self.number()?) {
            // More would carry into the seconds, which may overflow and panic.
            Ok(nanos) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
            _ => Err(Error::corrupt(
                "the header has a second or more of nanoseconds",
            )),
        }
    }

    fn shared_text(&mut self) -> Result<Arc<str>> {
        self.text().map(Arc::from)
    }

    fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.blob()?).map_err(|error| {
            let message = "the header has a text that is not utf-8";
            Error::with_source(ErrorKind::Corrupt, message, error)
        })
    }

    fn blob(&mut self) -> Result<&'a [u8]> {
        let len = self.len()?;
        let (blob, rest) = self.0.split_at_checked(len).ok_or_else(ends_early)?;
        self.0 = rest;
        Ok(blob)
    }

    fn len(&mut self) -> Result<usize> {
        // What memory cannot address does not follow either.
        usize::try_from(self.number()?).map_err(|_| ends_early())
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let digit = u64::from(byte & 0x7f);
            if digit << shift >> shift != digit {
                break;
            }
            number |= digit << shift;
            if byte & 0x80 == 0 {
                // A last digit of zero, but for zero itself, says what a shorter form says.
                if digit == 0 && shift > 0 {
                    return Err(Error::corrupt("the header has an overlong number"));
                }
                return Ok(number);
            }
        }
        Err(Error::corrupt("the header has a number above 64 bits"))
    }

    fn byte(&mut self) -> Result<u8> {
        let (byte, rest) = self.0.split_first().ok_or_else(ends_early)?;
        self.0 = rest;
        Ok(*byte)
    }
}

fn ends_early() -> Error {
    Error::corrupt("the header ends early")
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn encoded(header: &Header) -> Vec<u8> {
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes
    }

    fn rich() -> Header {
        Header {
            etag: EntityTag::weak("v1").ok(),
            last_modified: Some(Timestamp::from_millis(300)),
            content_type: Some("a/b".into()),
            fetched_at: Timestamp::from_millis(1_767_225_600_000),
            ttl: Some(Duration::from_secs(60)),
            stale_while_revalidate: Duration::from_millis(1_500),
            stale_if_error: Duration::from_secs(128),
            expires_at: Some(Timestamp::from_millis(u64::MAX)),
            generation: 5,
            absent: true,
            tags: vec!["é".into(), "".into()],
            attributes: vec![("k".into(), Bytes::from_static(&[0xff, 0]))],
        }
    }

    /// Pins version 1. Should this test fail, the format needs another version.
    #[test]
    fn the_format_is_as_documented() {
        let golden: &[&[u8]] = &[
            &[0xf1, 0xff],                                     // version and flags
            &[2, b'v', b'1'],                                  // etag
            &[0xac, 0x02],                                     // last_modified
            &[3, b'a', b'/', b'b'],                            // content_type
            &[0x80, 0xd0, 0xea, 0xb6, 0xb7, 0x33],             // fetched_at
            &[60, 0],                                          // ttl
            &[1, 0x80, 0xca, 0xb5, 0xee, 0x01],                // stale_while_revalidate
            &[0x80, 0x01, 0],                                  // stale_if_error
            &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1], // expires_at
            &[5],                                              // generation
            &[2, 2, 0xc3, 0xa9, 0],                            // tags
            &[1, 1, b'k', 2, 0xff, 0],                         // attributes
        ];
        assert_eq!(encoded(&rich()), golden.concat());
        assert_eq!(Header::decode(&golden.concat()).unwrap(), rich());
        assert_eq!(encoded(&Header::default()), [1, 0, 0]);
        assert_eq!(Header::decode(&[1, 0, 0]).unwrap(), Header::default());
    }

    #[test]
    fn a_plain_header_is_small() {
        let header = Header {
            fetched_at: Timestamp::from_millis(1_798_761_599_999),
            ttl: Some(Duration::from_secs(60)),
            ..Header::default()
        };
        assert_eq!(encoded(&header).len(), 10);
    }

    #[test]
    fn encode_appends() {
        let mut bytes = b"before".to_vec();
        rich().encode(&mut bytes);
        assert_eq!(bytes, [b"before", &*encoded(&rich())].concat());
    }

    #[test]
    fn what_is_alike_stays_apart() {
        let zero_ttl = Header {
            ttl: Some(Duration::ZERO),
            ..Header::default()
        };
        let empty_texts = Header {
            etag: EntityTag::strong("").ok(),
            content_type: Some("".into()),
            attributes: vec![("".into(), Bytes::new())],
            ..Header::default()
        };
        for header in [zero_ttl, empty_texts] {
            assert_eq!(Header::decode(&encoded(&header)).unwrap(), header);
        }
    }

    #[test]
    fn every_truncation_and_extension_is_corrupt() {
        let mut bytes = encoded(&rich());
        for len in 0..bytes.len() {
            assert!(Header::decode(&bytes[..len]).unwrap_err().is_corrupt());
        }
        bytes.push(0);
        assert!(Header::decode(&bytes).unwrap_err().is_corrupt());
    }

    #[test]
    fn every_flipped_bit_is_corrupt_or_another_header() {
        for header in [rich(), Header::default()] {
            let mut bytes = encoded(&header);
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                match Header::decode(&bytes) {
                    Ok(other) => {
                        assert_ne!(other, header);
                        assert_eq!(encoded(&other), bytes);
                    }
                    Err(error) => assert!(error.is_corrupt()),
                }
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let cases: &[(&[u8], &str)] = &[
            (&[], "the header ends early"),
            (&[0, 0, 0], "the header has the unknown version 0"),
            (&[2, 0, 0], "the header has the unknown version 2"),
            (&[1, 0x80, 0, 0], "the header spells out generation zero"),
            (&[0x21, 0, 0], "the header has unknown flags"),
            (&[1, 0, 0, 0], "bytes follow the end of the header"),
            (&[1, 0, 0x80, 0], "the header has an overlong number"),
            (
                &[1, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 3],
                "the header has a number above 64 bits",
            ),
            (
                &[1, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0x81, 0],
                "the header has a number above 64 bits",
            ),
            (
                &[0x11, 0, 1, b' ', 0],
                "the header has an invalid entity tag",
            ),
            (
                &[0x81, 0, 1, 0xff, 0],
                "the header has a text that is not utf-8",
            ),
            (
                // A duration that would overflow if nanoseconds were carried.
                &[
                    1, 1, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0x80, 0x94, 0xeb,
                    0xdc, 3,
                ],
                "the header has a second or more of nanoseconds",
            ),
            (&[1, 2, 0, 0, 0], "the header spells out a zero duration"),
            (&[1, 0x20, 0, 0], "the header has an empty list"),
            // Counts and lengths far beyond what follows: nothing is allocated by them.
            (
                &[1, 0x40, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
                "the header ends early",
            ),
            (
                &[0x81, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
                "the header ends early",
            ),
        ];
        for (bytes, message) in cases {
            let error = Header::decode(bytes).unwrap_err();
            assert!(error.is_corrupt());
            assert_eq!(error.to_string(), *message, "{bytes:?}");
        }
    }

    fn timestamps() -> impl Strategy<Value = Timestamp> {
        any::<u64>().prop_map(Timestamp::from_millis)
    }

    fn durations() -> impl Strategy<Value = Duration> {
        let nanos = prop_oneof![Just(0), 0..1_000_000_000_u32];
        let seconds = prop_oneof![Just(0), 0..100_000_u64, any::<u64>()];
        (seconds, nanos).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
    }

    fn etags() -> impl Strategy<Value = EntityTag> {
        ("[!#-~é]{0,40}", any::<bool>()).prop_map(|(text, weak)| {
            if weak {
                EntityTag::weak(text).unwrap()
            } else {
                EntityTag::strong(text).unwrap()
            }
        })
    }

    prop_compose! {
        fn headers()(
            etag in option::of(etags()),
            last_modified in option::of(timestamps()),
            content_type in option::of(any::<String>()),
            fetched_at in timestamps(),
            ttl in option::of(durations()),
            stale_while_revalidate in durations(),
            stale_if_error in durations(),
            expires_at in option::of(timestamps()),
            generation in prop_oneof![Just(0), any::<u64>()],
            absent in any::<bool>(),
            tags in vec(any::<String>(), 0..4),
            attributes in vec((any::<String>(), vec(any::<u8>(), 0..300)), 0..4),
        ) -> Header {
            Header {
                etag,
                last_modified,
                content_type: content_type.map(Arc::from),
                fetched_at,
                ttl,
                stale_while_revalidate,
                stale_if_error,
                expires_at,
                generation,
                absent,
                tags: tags.into_iter().map(Arc::from).collect(),
                attributes: (attributes.into_iter())
                    .map(|(name, value)| (name.into(), value.into()))
                    .collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn decode_reads_what_encode_wrote(header in headers()) {
            prop_assert_eq!(Header::decode(&encoded(&header)).unwrap(), header);
        }

        #[test]
        fn whatever_is_accepted_is_canonical(
            flags in any::<u16>(),
            rest in vec(prop_oneof![0..4_u8, any::<u8>()], 0..40),
        ) {
            let flags = flags & !VERSION_MASK | VERSION;
            let bytes = [&flags.to_le_bytes()[..], &rest].concat();
            match Header::decode(&bytes) {
                Ok(header) => prop_assert_eq!(encoded(&header), bytes),
                Err(error) => prop_assert!(error.is_corrupt()),
            }
        }
    }
}
