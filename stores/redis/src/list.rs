//! Finding the keys that are there.

use std::{collections::HashSet, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream};
use larder_store::{KeyBuf, Keys};
use siphasher::sip128::SipHasher13;

use crate::shared::Shared;

/// How many names the server looks at before it answers.
const COUNT: usize = 1000;

pub(crate) fn list(shared: &Arc<Shared>, prefix: &str) -> Keys {
    let scan = shared.link.scan(shared.names.manifests(prefix), COUNT);
    let listing = (scan, Given::default(), Arc::clone(shared));
    let parts = stream::try_unfold(listing, |(mut scan, mut given, shared)| async move {
        shared.check_open()?;
        let Some(names) = shared.home.run(scan.next()).await? else {
            return Ok(None);
        };
        // What others have put there under a similar name has no key of ours.
        let keys = names.iter().filter_map(|name| shared.names.key_of(name));
        let keys: Vec<_> = keys.filter(|key| given.is_new(key)).map(Ok).collect();
        Ok(Some((stream::iter(keys), (scan, given, shared))))
    });
    Box::pin(parts.try_flatten().fuse())
}

/// The keys that were given: the server may name one twice. As hashes of 128 bits, by which no two
/// keys are taken for one.
#[derive(Default)]
struct Given(HashSet<[u8; 16]>);

impl Given {
    fn is_new(&mut self, key: &KeyBuf) -> bool {
        self.0
            .insert(SipHasher13::new().hash(key.as_bytes()).as_bytes())
    }
}
