//! Any bytes as a stored header: refused as corrupt, or a header that is written again as the same
//! bytes. And any text as entity tags and as the value of `If-None-Match`: never a panic, and what
//! is read as a tag is written as the same text.

#![no_main]

use larder::{EntityTag, Header, IfNoneMatch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match Header::decode(input) {
        Ok(header) => {
            let mut again = Vec::new();
            header.encode(&mut again);
            assert_eq!(again, input, "{header:?} has two forms");
        }
        Err(error) => assert!(error.is_corrupt(), "{error:?}"),
    }
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match text.parse::<EntityTag>() {
        Ok(tag) => {
            assert_eq!(tag.to_string(), text, "the tag has two forms");
            let list = text.parse::<IfNoneMatch>();
            assert_eq!(list.ok(), Some(tag.into()), "{text} is no list of one");
        }
        Err(error) => assert!(error.is_invalid(), "{error:?}"),
    }
    if let Err(error) = text.parse::<IfNoneMatch>() {
        assert!(error.is_invalid(), "{error:?}");
    }
});
