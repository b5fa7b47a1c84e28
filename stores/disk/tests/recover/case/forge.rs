//! Changes behind which the checksums are made to fit again, so that they are met by more than a
//! comparison of checksums. The forms are those of `FORMAT.md`.

use std::path::Path;

use crc32c::{crc32c, crc32c_append};

use super::Files;

const UNIT: usize = 16;
const RECORD: usize = 40;
const SEGMENT: usize = 64;
const TRAILER: usize = 64;
const SNAPSHOT: usize = 64;

/// The id of the store whose files these are.
pub(crate) fn store_id(files: &Files) -> Option<[u8; 16]> {
    let (_, bytes) = files.iter().find(|(path, _)| path == Path::new("FORMAT"))?;
    let line = std::str::from_utf8(bytes).ok()?.lines().nth(1)?;
    Some(u128::from_str_radix(line, 16).ok()?.to_be_bytes())
}

/// Changes a part of a file and signs it again; `false` where it has no such part.
pub(crate) fn edit(
    path: &Path,
    bytes: &mut [u8],
    store_id: &[u8; 16],
    change: impl FnOnce(&mut [u8]),
) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(name) = name else { return false };
    if name.starts_with("index.snap") {
        return snapshot(bytes, store_id, change).is_some();
    }
    let id = name.strip_suffix(".seg").and_then(|id| id.parse().ok());
    let Some(id) = id else { return false };
    segment(bytes, store_id, id, change).is_some()
}

/// Everything in a segment is signed again where it was signed before: the segment's header, the
/// records, the footer.
fn segment(
    bytes: &mut [u8],
    store_id: &[u8; 16],
    id: u64,
    change: impl FnOnce(&mut [u8]),
) -> Option<()> {
    let seed = crc32c_append(crc32c(store_id), &u64::to_le_bytes(id));
    let records: Vec<_> = (SEGMENT..bytes.len().saturating_sub(RECORD))
        .step_by(UNIT)
        .filter(|at| is_signed(&bytes[*at..at + RECORD], seed))
        .collect();
    let trailer = bytes.len().checked_sub(TRAILER)?;
    let has_trailer =
        u32_at(bytes, trailer + 60) == Some(crc32c_append(seed, &bytes[trailer..trailer + 60]));
    change(bytes);
    for at in records {
        sign_record(&mut bytes[at..], seed);
    }
    if has_trailer {
        sign_footer(bytes, trailer, seed);
    }
    let crc = crc32c(&bytes[..SEGMENT - 4]);
    put(bytes, SEGMENT - 4, crc)
}

fn is_signed(header: &[u8], seed: u32) -> bool {
    u32_at(header, 0) == Some(crc32c_append(seed, &header[4..]))
}

fn sign_record(record: &mut [u8], seed: u32) -> Option<()> {
    let key_len = usize::from(u16::from_le_bytes([*record.get(6)?, *record.get(7)?]));
    let meta_len = usize::try_from(u32_at(record, 8)?).ok()?;
    let len = usize::try_from(u32_at(record, 12)?).ok()?;
    let extra_len = match record.get(4)? {
        1 if len > 1 << 16 => len.div_ceil(1 << 16) * 4,
        1 => 0,
        2 => 16,
        _ => 8,
    };
    let head = RECORD..RECORD.checked_add(key_len + meta_len + extra_len)?;
    if let Some(bytes) = record.get(head.clone()) {
        let crc = crc32c(bytes);
        put(record, 36, crc)?;
    }
    if let Some(value) = record.get(head.end..head.end.checked_add(len)?)
        && record[4] == 1
    {
        let crc = crc32c(value);
        put(record, 32, crc)?;
    }
    let crc = crc32c_append(seed, record.get(4..RECORD)?);
    put(record, 0, crc)
}

fn sign_footer(bytes: &mut [u8], trailer: usize, seed: u32) -> Option<()> {
    let count = usize::try_from(u32_at(bytes, trailer + 8)?).ok()?;
    let keys = u64_at(bytes, trailer + 16)?;
    let start = u64_at(bytes, trailer + 24)?;
    let middle = start.checked_add(count.checked_mul(24)?)?;
    if let Some(entries) = bytes.get(start..middle) {
        let crc = crc32c_append(seed, entries);
        put(bytes, trailer + 48, crc)?;
    }
    if let Some(keys) = bytes.get(middle..middle.checked_add(keys)?) {
        let crc = crc32c_append(seed, keys);
        put(bytes, trailer + 52, crc)?;
    }
    let crc = crc32c_append(seed, bytes.get(trailer..trailer + 60)?);
    put(bytes, trailer + 60, crc)
}

fn snapshot(bytes: &mut [u8], store_id: &[u8; 16], change: impl FnOnce(&mut [u8])) -> Option<()> {
    change(bytes);
    let seed = crc32c_append(crc32c(b"larderIX"), store_id);
    let segments = usize::try_from(u32_at(bytes, 12)?).ok()?;
    let header = SNAPSHOT.checked_add(segments.checked_mul(24)?)?;
    let mut crc = crc32c_append(seed, bytes.get(16..24)?);
    let mut at = header.checked_add(4)?;
    for _ in 0..256 {
        let Some(next) = sign_shard(bytes, at, &mut crc) else {
            break;
        };
        at = next;
    }
    put(bytes, 56, crc)?;
    let crc = crc32c_append(seed, bytes.get(..header)?);
    put(bytes, header, crc)
}

/// Gives the place of the next.
fn sign_shard(bytes: &mut [u8], at: usize, crc: &mut u32) -> Option<usize> {
    let entries = usize::try_from(u32_at(bytes, at)?).ok()?;
    let blobs = usize::try_from(u32_at(bytes, at.checked_add(4)?)?).ok()?;
    let len = entries
        .checked_add(blobs)?
        .checked_mul(16)?
        .checked_add(8)?;
    let end = at.checked_add(len)?;
    *crc = crc32c_append(*crc, bytes.get(at..end)?);
    put(bytes, end, *crc)?;
    end.checked_add(4)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}

fn put(bytes: &mut [u8], at: usize, crc: u32) -> Option<()> {
    let into = bytes.get_mut(at..)?.first_chunk_mut()?;
    *into = crc.to_le_bytes();
    Some(())
}
