//! S73: a store whose commits go on after the engine has given them up.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use larder::{ByteRange, Cache, Draft, Key, Metadata, Store, Tier, Usage};
use larder_conformance::Model;
use larder_store::{Commit, Error, Fence, Identity, Lookup, Reply, Writer};

use crate::{
    levers::{KEY, held, reading, seen, small},
    support::{Origin, SECOND, clock, settle, strict},
};

/// How long its commits take, whether or not anyone still waits for them.
const COMMIT: Duration = Duration::from_secs(10);

/// Hands each commit to a thread of its own, as a store of blocking calls may.
#[derive(Clone, Debug)]
struct Late(Model);

struct LateWriter(Box<dyn Writer>);

impl Store for Late {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        self.0.get_stream(key, range)
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        Reply::later(async move {
            let writer = self.0.set_with_writer(key, draft).await?;
            Ok(Box::new(LateWriter(writer)) as Box<dyn Writer>)
        })
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
        "late"
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

    fn identity(&self) -> Identity {
        self.0.identity()
    }
}

impl Writer for LateWriter {
    fn write(&mut self, chunk: Bytes) -> Reply<'_, ()> {
        self.0.write(chunk)
    }

    fn commit(self: Box<Self>) -> Reply<'static, Commit> {
        let commit = tokio::spawn(async move {
            tokio::time::sleep(COMMIT).await;
            self.0.commit().await
        });
        Reply::later(async { commit.await.map_err(|_| Error::closed("the runtime"))? })
    }

    fn abort(self: Box<Self>) -> Reply<'static, ()> {
        self.0.abort()
    }
}

fn over(lower: Tier) -> Cache {
    let tiers = Cache::builder().tier(small()).tier(lower);
    tiers.policy(strict()).clock(clock()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn s73_a_fill_whose_commit_lands_late_lands_nowhere() {
    let (store, origin) = (small(), Origin::default());
    let cache = over(Tier::new(Late(store.clone())));
    assert_eq!(reading(&cache, origin.gives("old")).await.unwrap(), "old");
    settle(&cache).await;
    assert_eq!(cache.tiers()[1].counters.timeouts, 1, "it was given up");
    tokio::time::sleep(COMMIT).await;
    assert_eq!(held(&store).await, None);
    assert_eq!(store.fences(), 0);
}

#[tokio::test(start_paused = true)]
async fn s73_a_write_behind_whose_commit_lands_late_lands_nowhere() {
    let store = small();
    let cache = over(Tier::new(Late(store.clone())).behind());
    cache.insert(KEY, "old", Draft::new()).await.unwrap();
    settle(&cache).await;
    assert_eq!(cache.tiers()[1].counters.timeouts, 1, "it was given up");
    cache.delete(KEY).await.unwrap();
    tokio::time::sleep(COMMIT).await;
    assert_eq!(held(&store).await, None);
    assert_eq!(seen(&cache).await, None);
}

#[tokio::test(start_paused = true)]
async fn s73_a_tier_that_has_the_time_for_late_commits_keeps_them() {
    let (store, origin) = (small(), Origin::default());
    let cache = over(Tier::new(Late(store.clone())).timeout(20 * SECOND));
    assert_eq!(reading(&cache, origin.gives("one")).await.unwrap(), "one");
    tokio::time::sleep(COMMIT).await;
    settle(&cache).await;
    assert_eq!(held(&store).await.as_deref(), Some("one"));
}
