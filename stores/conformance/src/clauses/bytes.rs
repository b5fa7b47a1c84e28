//! Clauses 9 and 10: which bytes come, and that they are the right ones.

use bytes::Bytes;
use larder_store::{ByteRange, Draft, Lookup, Object, Result, Store};

use crate::{
    Setup, Subject,
    probe::{draft, expect_err, finds, hit, key, open, pattern, put, set},
};

/// Clause 9: any range that lies within the object is given exactly, one that the object's end clamps
/// is given up to there, and no other.
pub async fn clause_09_ranges(subject: &impl Subject) {
    let store = subject.make(Setup::default()).await;
    for len in [1_u64, 2, 4096, 10_000, 300_001] {
        let name = format!("{len}");
        let size = usize::try_from(len).expect("it is small");
        set(&store, &name, len, size).await;
        let whole = pattern(len, size);
        for start in places(len) {
            expect(&store, &name, &whole, ByteRange::from(start..)).await;
            if let Ok(range) = ByteRange::suffix(start) {
                expect(&store, &name, &whole, range).await;
            }
            for end in places(len) {
                let ranges = [
                    ByteRange::try_from(start..end),
                    ByteRange::within(start, end),
                ];
                for range in ranges.into_iter().flatten() {
                    expect(&store, &name, &whole, range).await;
                }
            }
        }
        finds(&store, &name, len).await;
    }
    for with_chunk in [false, true] {
        let mut writer = open(&store, "empty", draft(0).len(0)).await;
        if with_chunk {
            writer
                .write(Bytes::new())
                .await
                .expect("an empty chunk is taken");
        }
        assert!(
            writer
                .commit()
                .await
                .expect("an empty object is committed")
                .is_done()
        );
        finds(&store, "empty", 0).await;
        for start in [0, 1, u64::MAX] {
            expect(&store, "empty", &Bytes::new(), ByteRange::from(start..)).await;
            let ranges = [
                ByteRange::suffix(start),
                ByteRange::try_from(0..start),
                ByteRange::within(0, start),
            ];
            for range in ranges.into_iter().flatten() {
                expect(&store, "empty", &Bytes::new(), range).await;
            }
        }
    }
}

/// Offsets at which something could go wrong in an object of this length.
fn places(len: u64) -> Vec<u64> {
    let mut places = vec![0, 1, len / 2, len - 1, len, len + 1, u64::MAX - 1, u64::MAX];
    places.extend([1023, 1024, 4095, 4096, 4097, 65_535, 65_536, 262_144]);
    places.sort_unstable();
    places.dedup();
    places.retain(|&place| place <= len + 1 || place >= u64::MAX - 1);
    places
}

async fn get<S: Store>(store: &S, name: &str, range: ByteRange) -> Result<Object> {
    match store.get_stream(key(name), range).await? {
        Lookup::Hit(object) => Ok(object),
        Lookup::Miss(_) => panic!("{name:?} is absent"),
    }
}

async fn expect<S: Store>(store: &S, name: &str, whole: &Bytes, range: ByteRange) {
    let got = get(store, name, range).await;
    let Ok(wanted) = range.resolve(whole.len() as u64) else {
        let error = expect_err(got, &format!("{range:?} of {} bytes", whole.len()));
        assert!(
            error.is_invalid(),
            "{range:?} is invalid, and not {error:?}"
        );
        return;
    };
    let object = got.expect("a range within the object is given");
    assert_eq!(object.range, wanted, "{range:?} of {} bytes", whole.len());
    assert_eq!(
        object.metadata.len(),
        whole.len() as u64,
        "metadata speaks of the whole"
    );
    let len = wanted.end - wanted.start;
    assert_eq!(object.body.len(), Some(len), "the length of {range:?}");
    let bytes = object.body.bytes(len).await;
    let bytes = bytes.expect("a range can be read to its end");
    let place = |place: u64| usize::try_from(place).expect("it is within the object");
    assert!(
        bytes == whole[place(wanted.start)..place(wanted.end)],
        "other bytes at {range:?}"
    );
}

/// Clause 10: a length that was declared is kept to, and what is read is what was written.
pub async fn clause_10_lengths_and_checksums_hold(subject: &impl Subject) {
    let store = subject.make(Setup::default()).await;
    for old in [None, Some(1)] {
        if let Some(id) = old {
            set(&store, "a", id, 800).await;
        }
        for (declared, written) in [(10, 9), (10, 0), (0, 1), (9, 10), (5000, 4999), (70_000, 9)] {
            let what = format!("{written} bytes where {declared} were declared");
            let mut writer = open(&store, "a", draft(2).len(declared)).await;
            let mut refused = false;
            for byte in chunks(&pattern(2, written)) {
                match writer.write(byte).await {
                    Ok(()) => {}
                    Err(error) => {
                        assert!(
                            written as u64 > declared && error.is_corrupt(),
                            "{error:?}: {what}"
                        );
                        refused = true;
                        break;
                    }
                }
            }
            let error = expect_err(writer.commit().await, &what);
            assert!(refused || error.is_corrupt(), "{error:?}: {what}");
            finds(&store, "a", old).await;
        }
    }
    absent_objects_have_no_body(&store).await;
    for len in [0, 1, 7, 1000, 4096, 65_536, 200_000] {
        for declare in [false, true] {
            let body = pattern(3, len);
            let draft = if declare {
                draft(3).len(len as u64)
            } else {
                draft(3)
            };
            let mut writer = open(&store, "b", draft).await;
            for chunk in chunks(&body) {
                writer.write(chunk).await.expect("a chunk is taken");
                writer
                    .write(Bytes::new())
                    .await
                    .expect("an empty chunk is taken");
            }
            assert!(
                writer
                    .commit()
                    .await
                    .expect("the length is right")
                    .is_done()
            );
            finds(&store, "b", 3).await;
            let metadata = hit(&store, "b").await.metadata;
            assert_eq!(metadata.len(), len as u64);
            if let Some(checksum) = metadata.checksum() {
                assert_eq!(checksum, crc32c(&body), "the CRC-32C of {len} bytes");
            }
        }
    }
}

async fn absent_objects_have_no_body<S: Store>(store: &S) {
    let absent = |id| draft(id).with(|header| header.absent = true);
    let declared = store.set_with_writer(key("none"), absent(1).len(3)).await;
    assert!(expect_err(declared, "a body for an absent object").is_invalid());
    let mut writer = open(store, "none", absent(1)).await;
    if writer.write("xyz".into()).await.is_ok() {
        let committed = writer.commit().await;
        assert!(expect_err(committed, "a body for an absent object").is_invalid());
    }
    finds(store, "none", None).await;
    assert!(put(store, "none", absent(2), &Bytes::new()).await.is_done());
    finds(store, "none", 2).await;
    assert!(hit(store, "none").await.metadata.absent);
    // Without a header it is an object like any other.
    assert!(
        put(store, "plain", Draft::new(), &pattern(0, 5))
            .await
            .is_done()
    );
    assert_eq!(hit(store, "plain").await.metadata.len(), 5);
}

/// Chunks of growing lengths, the first of one byte.
fn chunks(body: &Bytes) -> impl Iterator<Item = Bytes> {
    let mut rest = body.clone();
    let mut len = 1;
    std::iter::from_fn(move || {
        let chunk = rest.split_to(len.min(rest.len()));
        len *= 3;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// CRC-32C (Castagnoli), bit by bit, after RFC 3720, appendix B.4.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 * (crc & 1));
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_of_crc32c() {
        assert_eq!(super::crc32c(b"123456789"), 0xE306_9283);
    }
}
