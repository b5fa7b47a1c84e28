//! S05: a refresh that is told "not modified" reads and renews one key of one store.

use std::sync::Arc;

use larder::{
    ByteRange, Cache, Draft, EntityTag, Fetched, Key, ManualClock, Metadata, Result, Store,
    StoreExt, Tier, Usage,
};
use larder_conformance::Model;
use larder_store::{Commit, Fence, Lookup, Reply, Writer};
use tokio::time::timeout;

use super::AT_ONCE;
use crate::support::{Origin, SECOND, at_rest, clock, impatient, stale_is_served, strict, text};

/// The model without `Touch`: whoever renews in it writes the body anew.
#[derive(Clone, Debug)]
struct Untouchable(Model);

impl Store for Untouchable {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        self.0.get_stream(key, range)
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
        "untouchable"
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

/// What is stored: longer than one chunk of the model.
fn object() -> String {
    "old bytes;".repeat(500)
}

fn tagged() -> Draft {
    Draft::new().with(|header| header.etag = EntityTag::strong("v1").ok())
}

/// A tier with an object of two minutes ago, which was fresh for one.
async fn with_old_entry(tier: impl Into<Tier>) -> (Cache, ManualClock) {
    let clock = clock();
    let cache = impatient()
        .policy(stale_is_served())
        .clock(clock.clone())
        .tier(tier);
    let cache = cache.build().unwrap();
    cache.insert("a", object(), tagged()).await.unwrap();
    clock.advance(90 * SECOND);
    (cache, clock)
}

async fn renews_behind(tier: impl Into<Tier>) -> Cache {
    let (cache, _clock) = with_old_entry(tier).await;
    let origin = Origin::default();
    let not_modified = origin.does(async |context| {
        assert_eq!(context.etag().unwrap().opaque(), "v1");
        Ok(Fetched::not_modified())
    });
    let stale = cache.get_or_fetch("a", not_modified).await.unwrap();
    assert!(stale.status().is_stale());
    let renewed = timeout(AT_ONCE, at_rest(&cache)).await;
    renewed.expect("the refresh waits for itself");
    let fresh = cache.get("a").await.unwrap();
    assert!(!fresh.status().is_stale() && fresh.status().is_hit());
    assert_eq!(text(fresh).await, object());
    assert_eq!(text(stale).await, object());
    assert_eq!((origin.fetches(), cache.counters().revalidated), (1, 1));
    cache
}

#[tokio::test(start_paused = true)]
async fn s05_a_refresh_that_gets_304_renews_the_only_tier() {
    let cache = renews_behind(Model::new()).await;
    let counters = cache.tiers()[0].counters;
    assert_eq!(
        (counters.touched, counters.fills),
        (1, 1),
        "only the insert wrote bytes"
    );
}

#[tokio::test(start_paused = true)]
async fn s05_a_refresh_that_gets_304_rewrites_a_tier_that_cannot_touch_from_itself() {
    let cache = renews_behind(Untouchable(Model::new())).await;
    let counters = cache.tiers()[0].counters;
    assert_eq!((counters.touched, counters.fills), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn s05_a_read_that_waits_for_304_gets_the_renewed_object_at_once() {
    for touches in [true, false] {
        let store = Model::new();
        let tier = if touches {
            Tier::new(store.clone())
        } else {
            Tier::new(Untouchable(store.clone()))
        };
        let (cache, clock) = with_old_entry(tier).await;
        clock.advance(60 * SECOND);
        let not_modified = Origin::default().does(async |_| Ok(Fetched::not_modified()));
        let read = async {
            let response = cache.get_or_fetch("a", not_modified).await.unwrap();
            assert!(response.status().is_revalidated());
            assert_eq!(text(response).await, object());
            at_rest(&cache).await;
        };
        timeout(AT_ONCE, read)
            .await
            .expect("the read waits for itself");
        assert!(!cache.get("a").await.unwrap().status().is_stale());
        assert_eq!(store.fences(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn s05_a_304_for_a_copy_in_a_lower_tier_renews_it_and_fills_the_tier_above_from_it() {
    let (upper, lower) = (Model::new(), Model::new());
    let (clock, origin) = (clock(), Origin::default());
    let cache = impatient()
        .policy(strict())
        .clock(clock.clone())
        .tier(upper.clone())
        .tier(lower.clone())
        .build()
        .unwrap();
    cache.insert("a", object(), tagged()).await.unwrap();
    upper.remove("a").await.unwrap();
    clock.advance(90 * SECOND);
    let not_modified = origin.does(async |_| Ok(Fetched::not_modified()));
    let read = async {
        let response = cache.get_or_fetch("a", not_modified).await;
        assert_eq!(text(response.unwrap()).await, object());
        at_rest(&cache).await;
    };
    timeout(AT_ONCE, read)
        .await
        .expect("the read waits for itself");
    assert_eq!(cache.tiers()[1].counters.touched, 1);
    let stamps = [stamp(&upper).await.unwrap(), stamp(&lower).await.unwrap()];
    assert_eq!(stamps[0].fetched_at, stamps[1].fetched_at);
    assert_eq!(
        cache.get("a").await.unwrap().status().age(),
        std::time::Duration::ZERO
    );
}

async fn stamp(store: &Model) -> Result<Arc<Metadata>> {
    let metadata = store.stat(Key::new("a")?).await?;
    Ok(metadata.expect("it is there"))
}
