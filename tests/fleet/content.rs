//! What the pages are made of: a first line that names key and version, and noise that follows from
//! both.

use bytes::Bytes;

use crate::random::Random;

/// Pages whose names begin so are of 1 MiB. Of the others most are short, and some have several
/// chunks of the shortest kind.
pub(crate) const LARGE: &str = "large";

pub(crate) fn body(key: &str, version: u64) -> Bytes {
    let seed = key.bytes().fold(version, |seed, byte| {
        Random::new(seed ^ u64::from(byte)).next()
    });
    let mut random = Random::new(seed);
    let most = match random.below(10) {
        _ if key.starts_with(LARGE) => 1 << 20,
        0 => 20 << 10,
        1..4 => 5 << 10,
        _ => 300,
    };
    let mut body = format!("{key} {version}\n").into_bytes();
    while body.len() < most {
        body.extend(random.next().to_le_bytes());
    }
    body.into()
}

/// The version of a page; an error where it is not one whole version of it.
pub(crate) fn version_of(key: &str, found: &[u8]) -> Result<u64, String> {
    let line = found.split(|&byte| byte == b'\n').next();
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    let version = match line.split_once(' ') {
        Some((name, version)) if name == key => version.parse().ok(),
        _ => None,
    };
    match version {
        Some(version) if body(key, version) == found => Ok(version),
        _ => Err(format!(
            "torn: {} bytes that begin with {line:?}",
            found.len()
        )),
    }
}

#[test]
fn what_is_not_one_whole_version_is_torn() {
    let (one, other) = (body("large", 1), body("large", 2));
    assert_eq!(version_of("large", &one), Ok(1));
    let mixed = [&one[..one.len() / 2], &other[one.len() / 2..]].concat();
    for torn in [&one[..one.len() - 1], &one[1..], &mixed, b"", b"large 1"] {
        version_of("large", torn).unwrap_err();
    }
    version_of("small", &one).unwrap_err();
}
