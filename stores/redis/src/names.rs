//! What things are called in the server.
//!
//! All names of one object carry the same hash tag, so that a Redis Cluster keeps them in one slot
//! and a script may touch them together. The tag is a hash of the key and not the key itself: a key
//! may contain braces.

use std::hash::Hasher;

use larder_store::{Error, Key, KeyBuf, Result};
use siphasher::sip::SipHasher13;

use crate::nonce::Nonce;

/// Makes the names of what a store keeps.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: Box<str>,
}

/// The most bytes that a prefix may have.
pub(crate) const PREFIX_LEN_MAX: usize = 64;

/// The length of a tag with its braces and the colons about it.
const TAG_LEN: usize = ":{0123456789abcdef}:".len();

impl Names {
    /// Names under this prefix. `Invalid` when it is empty or too long, or has characters that mean
    /// something to the server: braces mark the hash tag, the others are patterns.
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        let odd = |char: char| char.is_control() || "{}*?[]^\\".contains(char);
        if prefix.is_empty() || prefix.len() > PREFIX_LEN_MAX || prefix.contains(odd) {
            return Err(Error::invalid(format!(
                "the prefix {prefix:?} is not 1 to {PREFIX_LEN_MAX} bytes without control \
                 characters and without any of {{}}*?[]^\\"
            )));
        }
        Ok(Self {
            prefix: prefix.into(),
        })
    }

    /// The channel of the bus.
    pub(crate) fn bus(&self) -> String {
        format!("{}:bus", self.prefix)
    }

    /// The place of an object.
    pub(crate) fn place(&self, key: Key<'_>) -> Place {
        let hash = hash(key);
        let mut base = String::with_capacity(self.prefix.len() + TAG_LEN);
        base.push_str(&self.prefix);
        base.push_str(":{");
        // By hand: every look-up makes this name, and formatting takes several times as long.
        for byte in hash.to_be_bytes() {
            for digit in [byte >> 4, byte & 0xf] {
                base.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
            }
        }
        base.push_str("}:");
        Place { base, hash }
    }

    /// A pattern for the manifests of all keys that begin with `start`.
    pub(crate) fn manifests(&self, start: &str) -> Vec<u8> {
        let tag = "?".repeat(16);
        let mut pattern = format!("{}:{{{tag}}}:m:", self.prefix);
        for char in start.chars() {
            if "*?[]^\\".contains(char) {
                pattern.push('\\');
            }
            pattern.push(char);
        }
        pattern.push('*');
        pattern.into_bytes()
    }

    /// The key whose manifest has this name; `None` for a name that this store does not make.
    pub(crate) fn key_of(&self, manifest: &[u8]) -> Option<KeyBuf> {
        let rest = manifest.strip_prefix(self.prefix.as_bytes())?;
        let key = rest.get(TAG_LEN..)?.strip_prefix(b"m:")?;
        let key = KeyBuf::new(str::from_utf8(key).ok()?).ok()?;
        let name = self.place(key.as_key()).manifest(key.as_key());
        (name == manifest).then_some(key)
    }
}

/// Where the server keeps what belongs to one key.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The prefix and the tag, up to the colon after it.
    base: String,
    hash: u64,
}

impl Place {
    /// The hash of the key, which chooses the connection.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The object: its head, its header, and a small body.
    pub(crate) fn manifest(&self, key: Key<'_>) -> Vec<u8> {
        self.of_key("m:", key)
    }

    /// The fence.
    pub(crate) fn marker(&self, key: Key<'_>) -> Vec<u8> {
        self.of_key("f:", key)
    }

    /// The lease.
    pub(crate) fn lease(&self, key: Key<'_>) -> Vec<u8> {
        self.of_key("l:", key)
    }

    /// A manifest that waits for its commit.
    pub(crate) fn staged(&self, nonce: Nonce) -> Vec<u8> {
        format!("{}s:{nonce}", self.base).into_bytes()
    }

    /// The start of all names of chunks; a nonce, a colon and a number follow.
    pub(crate) fn chunks(&self) -> Vec<u8> {
        format!("{}c:", self.base).into_bytes()
    }

    /// One chunk of a body.
    pub(crate) fn chunk(&self, nonce: Nonce, index: u32) -> Vec<u8> {
        format!("{}c:{nonce}:{index}", self.base).into_bytes()
    }

    fn of_key(&self, kind: &str, key: Key<'_>) -> Vec<u8> {
        [
            self.base.as_bytes(),
            kind.as_bytes(),
            key.as_str().as_bytes(),
        ]
        .concat()
    }
}

/// The same in every process and every release: it is part of the names.
fn hash(key: Key<'_>) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    hasher.write(key.as_str().as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key<'_> {
        Key::new(text).unwrap()
    }

    #[test]
    fn names_are_as_documented() {
        let place = Names::new("larder").unwrap().place(key("a{b}"));
        let text = |name: Vec<u8>| String::from_utf8(name).unwrap();
        let nonce = Nonce::from([0xab; 16]);
        let tag = "{7ae52223ac70ab96}";
        assert_eq!(
            text(place.manifest(key("a{b}"))),
            format!("larder:{tag}:m:a{{b}}")
        );
        assert_eq!(
            text(place.marker(key("a{b}"))),
            format!("larder:{tag}:f:a{{b}}")
        );
        assert_eq!(
            text(place.lease(key("a{b}"))),
            format!("larder:{tag}:l:a{{b}}")
        );
        let hex = "ab".repeat(16);
        assert_eq!(
            text(place.chunk(nonce, 7)),
            format!("larder:{tag}:c:{hex}:7")
        );
        assert_eq!(text(place.staged(nonce)), format!("larder:{tag}:s:{hex}"));
    }

    #[test]
    fn a_name_leads_back_to_its_key() {
        let names = Names::new("a:b").unwrap();
        for text in ["a", "a{b}c", "m:", "é:*?[", &"k".repeat(4096)] {
            let name = names.place(key(text)).manifest(key(text));
            assert_eq!(names.key_of(&name).unwrap().as_key(), key(text));
            let mut other = name.clone();
            other.push(b'x');
            assert_eq!(names.key_of(&other), None, "the tag is of another key");
        }
        for planted in [
            "",
            "a:b",
            "a:b:{0123456789abcdef}:m:",
            "a:b:{0123456789abcdef}:f:x",
        ] {
            assert_eq!(names.key_of(planted.as_bytes()), None);
        }
    }

    #[test]
    fn senseless_prefixes_are_invalid() {
        for prefix in [
            "",
            "a*",
            "a{",
            "a}",
            "a\n",
            "a?",
            "[a",
            "a\\",
            &"p".repeat(65),
        ] {
            assert!(Names::new(prefix).unwrap_err().is_invalid(), "{prefix:?}");
        }
        assert!(Names::new(&"p".repeat(64)).is_ok());
        assert!(Names::new("tenant:1/é").is_ok());
    }
}
