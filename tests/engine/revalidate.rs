//! "Not modified": an entry renewed without its body, and what if it went meanwhile.

use bytes::Bytes;
use larder::{
    Cache, Draft, EntityTag, Fetched, Key, ManualClock, Memory, Store, StoreExt, Timestamp,
};
use larder_conformance::{Faulty, Model, Op, Setup};

use crate::{
    plain::Plain,
    source::{memory_at, pattern, whole},
    support::{Origin, SECOND, clock, settle, strict, text},
};

fn v1() -> EntityTag {
    EntityTag::strong("v1").unwrap()
}

fn draft() -> Draft {
    Draft::new().with(|header| {
        header.etag = Some(v1());
        header.content_type = Some("text/plain".into());
    })
}

/// A cache in whose tiers `a` has just run out.
async fn run_out(tiers: larder::Cache, clock: &ManualClock, body: impl Into<Bytes>) -> Cache {
    tiers.insert("a", body, draft()).await.unwrap();
    clock.advance(61 * SECOND);
    tiers
}

#[tokio::test(start_paused = true)]
async fn s39_not_modified_renews_the_time_in_every_tier_without_rewriting_the_body() {
    let clock = clock();
    let stores = [(); 2].map(|()| Faulty::new(memory_at(&clock)));
    let builder = Cache::builder()
        .tier(stores[0].clone())
        .tier(stores[1].clone());
    let cache = builder
        .policy(strict())
        .clock(clock.clone())
        .build()
        .unwrap();
    let cache = run_out(cache, &clock, "body").await;
    let written = stores
        .each_ref()
        .map(|store| store.faults().calls(Op::Write));
    let origin = Origin::default();
    let same = |origin: &Origin| {
        origin.does(async |context: larder::FetchContext| {
            assert_eq!(context.etag(), Some(&v1()), "the origin is asked about it");
            Ok(Fetched::not_modified())
        })
    };
    let renewed = cache.get_or_fetch("a", same(&origin)).await.unwrap();
    assert!(renewed.status().is_revalidated() && !renewed.status().is_stale());
    assert_eq!(renewed.status().age(), std::time::Duration::ZERO);
    assert_eq!(text(renewed).await, "body");
    settle(&cache).await;
    for _ in 0..100 {
        let hit = cache.get_or_fetch("a", same(&origin)).await.unwrap();
        assert!(hit.status().is_hit() && !hit.status().is_stale());
    }
    assert_eq!(origin.fetches(), 1, "no storm of refreshes");
    for (store, before) in stores.iter().zip(written) {
        assert_eq!(store.faults().calls(Op::Touch), 1);
        assert_eq!(
            store.faults().calls(Op::Write),
            before,
            "no body is rewritten"
        );
        let metadata = store.stat(Key::new("a").unwrap()).await.unwrap().unwrap();
        assert_eq!(metadata.fetched_at, larder::Clock::now(&clock));
    }
    assert_eq!(cache.counters().revalidated, 1);
}

#[tokio::test(start_paused = true)]
async fn s39_a_refresh_behind_that_is_not_modified_ends_the_staleness() {
    let clock = clock();
    let policy = strict().stale_while_revalidate(30 * SECOND);
    let builder = Cache::builder().tier(memory_at(&clock)).policy(policy);
    let cache = builder.clock(clock.clone()).build().unwrap();
    let cache = run_out(cache, &clock, "body").await;
    let origin = Origin::default();
    for stale in [true, false, false] {
        let fetch = origin.does(async |_| Ok(Fetched::not_modified()));
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        assert_eq!(response.status().is_stale(), stale);
        assert_eq!(text(response).await, "body");
        settle(&cache).await;
    }
    assert_eq!(origin.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn s40_what_was_evicted_meanwhile_is_served_from_the_open_body_and_filled_again() {
    let clock = clock();
    let object = pattern(10_000);
    // A body that streams, and one that is whole.
    for whole_bodies in [false, true] {
        let store = Model::with(Setup::new(15_000, 15_000));
        let store = if whole_bodies { store.whole() } else { store };
        let builder = Cache::builder().tier(store.clone()).policy(strict());
        let cache = builder.clock(clock.clone()).build().unwrap();
        let cache = run_out(cache, &clock, object.clone()).await;
        let evicting = store.clone();
        let fetch = Origin::default().does(async move |_| {
            let written = evicting.write("b", pattern(10_000), Draft::new());
            assert!(written.await.unwrap().is_done());
            assert!(!evicting.exists("a").await.unwrap(), "it was evicted");
            Ok(Fetched::not_modified())
        });
        let response = cache.get_or_fetch("a", fetch).await.unwrap();
        assert!(response.status().is_revalidated());
        assert_eq!(whole(response).await, object);
        settle(&cache).await;
        let hit = cache.get("a").await.unwrap();
        assert!(hit.status().is_hit(), "filled again, whole: {whole_bodies}");
        assert_eq!(hit.metadata().unwrap().etag, Some(v1()));
        assert_eq!(whole(hit).await, object);
    }
}

#[tokio::test(start_paused = true)]
async fn s40_what_was_evicted_from_one_tier_is_renewed_in_the_other() {
    let clock = clock();
    let (hot, cold) = (Model::with(Setup::new(15_000, 15_000)), memory_at(&clock));
    let builder = Cache::builder().tier(hot.clone()).tier(cold.clone());
    let cache = builder
        .policy(strict())
        .clock(clock.clone())
        .build()
        .unwrap();
    let object = pattern(10_000);
    let cache = run_out(cache, &clock, object.clone()).await;
    let evicting = hot.clone();
    let fetch = Origin::default().does(async move |_| {
        let written = evicting.write("b", pattern(10_000), Draft::new());
        assert!(written.await.unwrap().is_done());
        Ok(Fetched::not_modified())
    });
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    assert_eq!(whole(response).await, object);
    settle(&cache).await;
    let fetched_at = async |store: &dyn Store| {
        let metadata = store.stat(Key::new("a").unwrap()).await.unwrap();
        metadata.unwrap().fetched_at
    };
    assert_eq!(fetched_at(&cold).await, larder::Clock::now(&clock));
    assert_eq!(fetched_at(&hot).await, larder::Clock::now(&clock));
    assert_eq!(hot.read("a", 1 << 20).await.unwrap().unwrap(), object);
}

#[tokio::test(start_paused = true)]
async fn not_modified_may_change_header_fields_and_lifetimes() {
    let clock = clock();
    let store = memory_at(&clock);
    let builder = Cache::builder().tier(store).policy(strict());
    let cache = builder.clock(clock.clone()).build().unwrap();
    let cache = run_out(cache, &clock, "body").await;
    let modified = Timestamp::from_millis(5);
    let fetch = Origin::default().does(async move |_| {
        let same = Fetched::not_modified().etag(EntityTag::weak("v2").unwrap());
        let same = same.last_modified(modified).attribute("cost", "3");
        Ok(same.tag("seen").ttl(7 * SECOND))
    });
    let renewed = cache.get_or_fetch("a", fetch).await.unwrap();
    settle(&cache).await;
    let hit = cache.get("a").await.unwrap();
    for response in [renewed, hit] {
        let header = response.metadata().unwrap();
        assert_eq!(header.etag, Some(EntityTag::weak("v2").unwrap()));
        assert_eq!(header.last_modified, Some(modified));
        assert_eq!(header.attribute("cost").unwrap(), "3");
        assert!(header.tags.iter().map(|tag| &**tag).eq(["seen"]));
        assert_eq!(header.ttl, Some(7 * SECOND));
        assert_eq!(header.content_type.as_deref(), Some("text/plain"), "kept");
        assert_eq!(text(response).await, "body");
    }
    clock.advance(7 * SECOND);
    assert!(cache.get("a").await.unwrap().is_absent());
}

#[tokio::test(start_paused = true)]
async fn where_a_tier_cannot_touch_not_modified_rewrites_it_from_the_open_body() {
    let clock = clock();
    let object = pattern(10_000);
    let plain = Plain::new(Model::new());
    let builder = Cache::builder().tier(memory_at(&clock)).tier(plain.clone());
    let cache = builder
        .policy(strict())
        .clock(clock.clone())
        .build()
        .unwrap();
    let cache = run_out(cache, &clock, object.clone()).await;
    let fetch = Origin::default().does(async |_| Ok(Fetched::not_modified()));
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    assert!(response.status().is_revalidated());
    assert_eq!(whole(response).await, object);
    settle(&cache).await;
    let metadata = plain.stat(Key::new("a").unwrap()).await.unwrap().unwrap();
    assert_eq!(metadata.fetched_at, larder::Clock::now(&clock));
    assert_eq!(metadata.etag, Some(v1()));
    assert_eq!(plain.read("a", 1 << 20).await.unwrap().unwrap(), object);
    assert!(cache.get("a").await.unwrap().status().is_hit());
}

#[tokio::test(start_paused = true)]
async fn not_modified_without_a_stale_copy_is_an_error() {
    let cache = Cache::builder().tier(Memory::new(1 << 20)).build().unwrap();
    let fetch = Origin::default().does(async |context: larder::FetchContext| {
        assert!(context.stale().is_none() && context.etag().is_none());
        Ok(Fetched::not_modified())
    });
    let error = cache.get_or_fetch("a", fetch).await.unwrap_err();
    assert!(error.is_invalid());
}

/// Of copies of different age, the origin is asked about the newest.
#[tokio::test(start_paused = true)]
async fn the_newest_copy_is_revalidated_and_older_ones_above_it_are_replaced() {
    let clock = clock();
    let (hot, cold) = (memory_at(&clock), memory_at(&clock));
    let dated = |seconds: u32, tag: &str| {
        let (at, tag) = (larder::Clock::now(&clock), EntityTag::strong(tag).ok());
        Draft::new().with(|header| {
            header.fetched_at = at.after(seconds * SECOND);
            header.ttl = Some(SECOND);
            header.etag = tag;
        })
    };
    assert!(
        hot.write("a", "older", dated(0, "v0"))
            .await
            .unwrap()
            .is_done()
    );
    assert!(
        cold.write("a", "newer", dated(5, "v1"))
            .await
            .unwrap()
            .is_done()
    );
    clock.advance(60 * SECOND);
    let builder = Cache::builder().tier(hot.clone()).tier(cold.clone());
    let cache = builder.policy(strict()).clock(clock).build().unwrap();
    let fetch = Origin::default().does(async |context: larder::FetchContext| {
        assert_eq!(context.etag(), Some(&v1()));
        Ok(Fetched::not_modified())
    });
    let response = cache.get_or_fetch("a", fetch).await.unwrap();
    assert_eq!(text(response).await, "newer");
    settle(&cache).await;
    for store in [hot, cold] {
        assert_eq!(store.read("a", 9).await.unwrap().unwrap(), "newer");
    }
}
