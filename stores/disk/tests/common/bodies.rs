//! Bodies that tell which object they belong to.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
    sync::OnceLock,
};

use bytes::Bytes;
use larder_store::{Draft, Header};

use super::Random;

/// So many different bodies there are, and so long one may be.
const STARTS: usize = 4 << 20;
const LEN_MAX: usize = 12 << 20;

/// Bytes without order, which are made once: a body is a part of them, whose start depends on
/// whose it is. A mixture, a part or a shift of bodies is no body, and making one costs nothing.
fn noise() -> &'static Bytes {
    static NOISE: OnceLock<Bytes> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut random = Random::new(1);
        let mut bytes = Vec::with_capacity(STARTS + LEN_MAX);
        while bytes.len() < STARTS + LEN_MAX {
            bytes.extend_from_slice(&random.next().to_le_bytes());
        }
        bytes.into()
    })
}

/// The body of this version of the object under a name.
pub(crate) fn body(name: &str, version: u64, len: usize) -> Bytes {
    assert!(len <= LEN_MAX, "the noise is not that long");
    let mut hasher = DefaultHasher::new();
    (name, version).hash(&mut hasher);
    let start = usize::try_from(hasher.finish() % STARTS as u64).unwrap();
    noise().slice(start..start + len)
}

/// Asserts that these are the bytes of this range of the body, and no others.
pub(crate) fn check_body(name: &str, version: u64, range: &Range<u64>, bytes: &Bytes) {
    let at = |place: u64| usize::try_from(place).unwrap();
    let (start, end) = (at(range.start), at(range.end));
    let right = body(name, version, end).slice(start..);
    if right != *bytes {
        let first = right.iter().zip(bytes).position(|(a, b)| a != b);
        panic!(
            "{name:?} version {version}: {} bytes of {range:?}, which differ from {first:?} on",
            bytes.len()
        );
    }
}

/// A draft whose metadata says which body belongs to it.
pub(crate) fn draft(version: u64) -> Draft {
    Draft::new().with(|header| {
        let bytes = Bytes::copy_from_slice(&version.to_be_bytes());
        header.attributes.push(("version".into(), bytes));
    })
}

/// The version that metadata speaks of.
pub(crate) fn version_of(header: &Header) -> u64 {
    let version = header.attribute("version").expect("the attribute was set");
    u64::from_be_bytes(version[..].try_into().expect("it has eight bytes"))
}
