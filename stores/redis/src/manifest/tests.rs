use std::time::Duration;

use larder_store::Timestamp;
use proptest::prelude::*;

use super::*;

fn nonces() -> impl Strategy<Value = Nonce> {
    any::<[u8; 16]>().prop_map(Nonce::from)
}

fn headers() -> impl Strategy<Value = Header> {
    let texts = prop::collection::vec("[a-zé]{0,9}", 0..3);
    (any::<u64>(), any::<Option<u32>>(), texts, any::<bool>()).prop_map(
        |(fetched, ttl, texts, absent)| {
            let mut header = Header::default();
            header.fetched_at = Timestamp::from_millis(fetched);
            header.ttl = ttl.map(|ttl| Duration::from_millis(ttl.into()));
            header.tags = texts.iter().map(|text| text.as_str().into()).collect();
            header.absent = absent;
            header
        },
    )
}

fn placed() -> impl Strategy<Value = (u64, Placement)> {
    let chunks = (nonces(), 1..=CHUNK_MAX, 1..=CHUNKS_MAX, any::<u32>());
    let chunks = chunks.prop_map(|(nonce, size, count, less)| {
        let len = u64::from(size) * u64::from(count) - u64::from(less % size);
        (len, Placement::Chunks(Chunks { nonce, size }))
    });
    prop_oneof![
        any::<u64>().prop_map(|len| (len, Placement::Inline)),
        chunks
    ]
}

fn manifests() -> impl Strategy<Value = Manifest> {
    (headers(), placed(), any::<u32>(), nonces()).prop_map(
        |(header, (len, placement), checksum, nonce)| Manifest {
            header,
            len,
            checksum,
            nonce,
            placement,
        },
    )
}

proptest! {
    #[test]
    fn a_manifest_is_read_as_it_was_written(manifest in manifests(), body in any::<[u8; 3]>()) {
        let mut bytes = manifest.encode();
        prop_assert_eq!(manifest_len(&bytes).unwrap(), bytes.len());
        let end = bytes.len();
        if manifest.placement == Placement::Inline {
            bytes.extend(body);
        }
        let (read, at) = Manifest::decode(&bytes).unwrap();
        prop_assert_eq!((read, at), (manifest, end));
    }

    #[test]
    fn what_is_cut_or_altered_is_refused(
        manifest in manifests(),
        place in any::<prop::sample::Index>(),
        flip in 1..=u8::MAX,
    ) {
        let mut bytes = manifest.encode();
        let place = place.index(bytes.len());
        prop_assert!(Manifest::decode(&bytes[..place]).unwrap_err().is_corrupt());
        bytes[place] ^= flip;
        prop_assert!(Manifest::decode(&bytes).unwrap_err().is_corrupt());
    }

    #[test]
    fn whatever_is_read_has_one_form(
        manifest in manifests(),
        changes in prop::collection::vec((0..HEAD_LEN, any::<u8>()), 0..4),
    ) {
        let mut bytes = manifest.encode();
        for (place, byte) in changes {
            bytes[place] = byte;
        }
        // With the right checksum it is for the fields themselves to be right.
        let sum = sum(&bytes);
        bytes[SUM_AT..HEAD_LEN].copy_from_slice(&sum.to_le_bytes());
        check_any(&bytes);
    }
}

#[test]
fn fields_stand_where_the_format_says() {
    let manifest = Manifest {
        header: Header::default(),
        len: 0x0102_0304,
        checksum: 0xa1a2_a3a4,
        nonce: Nonce::from([7; 16]),
        placement: Placement::Chunks(Chunks {
            nonce: Nonce::from([9; 16]),
            size: 1 << 20,
        }),
    };
    let bytes = manifest.encode();
    assert_eq!(&bytes[..12], b"LRDR\x01\x01\0\0\x03\0\0\0");
    assert_eq!(bytes[12..20], [0, 0, 16, 0, 17, 0, 0, 0]);
    assert_eq!(bytes[20..28], [4, 3, 2, 1, 0, 0, 0, 0]);
    assert_eq!(
        (&bytes[28..44], &bytes[44..60]),
        (&[7; 16][..], &[9; 16][..])
    );
    assert_eq!(bytes[60..64], [0xa4, 0xa3, 0xa2, 0xa1]);
    assert_eq!(bytes[HEAD_LEN..], [1, 0, 0]);
}

#[test]
fn an_inline_body_is_checked() {
    let body = b"inline";
    let manifest = Manifest {
        header: Header::default(),
        len: body.len() as u64,
        checksum: crc32c::crc32c(body),
        nonce: Nonce::from([7; 16]),
        placement: Placement::Inline,
    };
    let value = [&manifest.encode()[..], body].concat();
    let (read, end) = Manifest::decode_with_body(&value).unwrap();
    assert_eq!((read, &value[end..]), (manifest, &body[..]));
    let last = value.len() - 1;
    let mut altered = value.clone();
    altered[last] ^= 1;
    for bad in [&altered[..], &value[..last], &[&value[..], b"x"].concat()] {
        assert!(Manifest::decode_with_body(bad).unwrap_err().is_corrupt());
    }
}

#[test]
fn counts_that_do_not_fit_the_body_are_refused() {
    let chunks = |size, len| {
        let manifest = Manifest {
            header: Header::default(),
            len,
            checksum: 0,
            nonce: Nonce::from([7; 16]),
            placement: Placement::Chunks(Chunks {
                nonce: Nonce::from([9; 16]),
                size,
            }),
        };
        Manifest::decode(&manifest.encode()).is_ok()
    };
    assert!(chunks(4096, 4097));
    assert!(!chunks(4096, 0), "no chunk at all");
    assert!(!chunks(CHUNK_MAX + 1, 1));
    assert!(chunks(1, CHUNKS_MAX.into()));
    assert!(!chunks(1, u64::from(CHUNKS_MAX) + 1));
}
