//! S52: a store that evicts against all reason.

use std::sync::Arc;

use futures_util::future::join_all;
use larder::{
    ByteRange, Cache, Draft, Key, Memory, Metadata, Promote, Response, Store, StoreExt, Tier, Usage,
};
use larder_store::{Commit, Fence, Lookup, Reply, Writer};
use tokio::time::timeout;

use crate::support::{SECOND, memory, settle, strict};

/// A memory whose eviction picks whatever was just found.
#[derive(Clone, Debug)]
struct Forgetful(Memory);

impl Store for Forgetful {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        let found = self.0.get_stream(key, range);
        // A memory's reply is ready: it took effect at the call.
        drop(self.0.delete(key, None));
        found
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        self.0.set_with_writer(key, draft)
    }

    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
        self.0.delete(key, fence)
    }

    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        self.0.stat(key)
    }

    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
        self.0.fence(key)
    }

    fn kind(&self) -> &'static str {
        "forgetful"
    }

    fn object_max(&self) -> Option<u64> {
        self.0.object_max()
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }

    fn close(&self) -> Reply<'_, ()> {
        self.0.close()
    }
}

/// Eviction that takes each object away before it can be opened a second time: every read ends, in
/// the object, in an absence or in an error, and none goes round for ever.
#[tokio::test(start_paused = true)]
async fn s52_an_eviction_that_takes_what_was_found_makes_no_endless_loop() {
    let hot = memory();
    let below = Tier::new(Forgetful(memory())).promote(Promote::Never);
    let builder = Cache::builder().tier(hot.clone()).tier(below);
    let cache = builder.policy(strict()).build().unwrap();
    let mut found = 0;
    for _ in 0..10 {
        cache.insert("a", "0123456789", Draft::new()).await.unwrap();
        // Only the forgetful tier has it now.
        hot.remove("a").await.unwrap();
        let reads = (0..8).map(async |number| {
            let range = ByteRange::try_from(number..number + 2).unwrap();
            let response = timeout(SECOND, cache.get("a").range(range)).await;
            match response.expect("it ends").map(Response::into_body) {
                Ok(Some(body)) => {
                    let bytes = body.bytes(2).await.unwrap();
                    assert_eq!(bytes[0], b'0' + u8::try_from(number).unwrap());
                    1
                }
                Ok(None) => 0,
                Err(error) => {
                    assert!(error.is_unavailable(), "{error}");
                    0
                }
            }
        });
        found += join_all(reads).await.into_iter().sum::<u32>();
    }
    assert!(found > 0, "who finds it has it");
    settle(&cache).await;
}
