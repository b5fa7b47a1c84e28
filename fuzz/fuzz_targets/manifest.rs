//! Any bytes under the name of an object in Redis, as they are and behind checksums that were made
//! to fit, and any bytes on the bus: refused, or something that is written again as the same bytes.

#![no_main]

use larder_store::Message;
use libfuzzer_sys::fuzz_target;

/// See `stores/redis/src/manifest.rs`.
const HEAD_LEN: usize = 68;

fuzz_target!(|input: &[u8]| {
    larder_redis::fuzzing::manifest(input);
    if let Some(mended) = mended(input) {
        larder_redis::fuzzing::manifest(&mended);
    }
    match Message::decode(input) {
        Ok(message) => assert_eq!(message.encode(), input, "{message:?} has two forms"),
        Err(error) => assert!(error.is_corrupt(), "{error:?}"),
    }
});

/// The input with its checksums right: that of an inline body, then that of head and header.
fn mended(input: &[u8]) -> Option<Vec<u8>> {
    let mut value = input.to_vec();
    let header_len = u32::from_le_bytes(*value.get(8..12)?.first_chunk()?);
    let header_end = HEAD_LEN.checked_add(usize::try_from(header_len).ok()?)?;
    let body = crc32c::crc32c(value.get(header_end..)?);
    value[60..64].copy_from_slice(&body.to_le_bytes());
    let head = crc32c::crc32c(&value[..HEAD_LEN - 4]);
    let sum = crc32c::crc32c_append(head, &value[HEAD_LEN..header_end]);
    value[HEAD_LEN - 4..HEAD_LEN].copy_from_slice(&sum.to_le_bytes());
    Some(value)
}
