//! Times to live: the server's for what it holds, the store's clock for what is absent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_redis::Redis;
use larder_servers::Server;
use larder_store::{Draft, Store, StoreExt, Timestamp};

use crate::common::{
    CHUNK, chunks, finds, is_absent, key, left, miss, name, names, pattern, set_fenced, store_with,
};

const NOW: u64 = 1_767_225_600_000;

async fn at(server: &Server, now: &Arc<AtomicU64>) -> Redis {
    let now = Arc::clone(now);
    let clock = move || Timestamp::from_millis(now.load(Ordering::SeqCst));
    store_with(server, |builder| builder.clock(clock)).await
}

fn until(millis: u64) -> Draft {
    Draft::new().with(|header| header.expires_at = Some(Timestamp::from_millis(millis)))
}

#[tokio::test]
async fn an_object_has_the_life_that_its_header_says() {
    let server = Server::start();
    let now = Arc::new(AtomicU64::new(NOW));
    let store = at(&server, &now).await;
    for len in [100, 80 << 10] {
        let written = store.write("a", pattern(1, len), until(NOW + 50_000)).await;
        assert!(written.unwrap().is_done());
        let manifest = name(&server, "m");
        let last = left(&server, &manifest).unwrap();
        assert!((40_000..=50_000).contains(&last), "{last} ms");
        for chunk in chunks(&server) {
            let last = left(&server, &chunk).unwrap();
            assert!(
                (100_000..=110_000).contains(&last),
                "with the grace: {last} ms"
            );
        }
        // By this store's clock, whatever the server thinks.
        now.store(NOW + 49_999, Ordering::SeqCst);
        finds(&store, "a", 1, len).await;
        now.store(NOW + 50_000, Ordering::SeqCst);
        is_absent(&store, "a").await;
        assert_eq!(names(&server, "*}:m:*"), Vec::<String>::new(), "cleaned");
        now.store(NOW, Ordering::SeqCst);
        server.ask::<()>(&["FLUSHALL"]);
    }
}

#[tokio::test]
async fn a_touch_changes_how_long_all_parts_live() {
    let server = Server::start();
    let store = at(&server, &Arc::new(AtomicU64::new(NOW))).await;
    let touch = store.as_touch().unwrap();
    for len in [100, 5 * CHUNK] {
        let written = store.write("a", pattern(1, len), until(NOW + 50_000)).await;
        assert!(written.unwrap().is_done());
        for (draft, lasts) in [
            (until(NOW + 500_000), Some(500_000)),
            (Draft::new(), None),
            (until(NOW + 7000), Some(7000)),
        ] {
            assert!(touch.touch(key("a"), draft).await.unwrap().is_done());
            let last = left(&server, &name(&server, "m"));
            assert_eq!(last.is_some(), lasts.is_some());
            assert!(last <= lasts && last >= lasts.map(|lasts| lasts - 5000));
            for chunk in chunks(&server) {
                let last = left(&server, &chunk);
                let lasts = lasts.map(|lasts| lasts + 60_000);
                assert!(last <= lasts && last >= lasts.map(|lasts| lasts - 5000));
            }
            finds(&store, "a", 1, len).await;
        }
        // One that has expired already removes the object.
        let fence = store.fence(key("a")).await.unwrap();
        let touched = touch.touch(key("a"), until(NOW).fence(fence.clone())).await;
        assert!(touched.unwrap().is_done());
        is_absent(&store, "a").await;
        assert!(
            !set_fenced(&store, "a", 2, &fence).await,
            "it counts as a commit"
        );
        server.ask::<()>(&["FLUSHALL"]);
    }
}

#[tokio::test]
async fn what_is_written_expired_is_not_stored_and_ends_fences() {
    let server = Server::start();
    let store = at(&server, &Arc::new(AtomicU64::new(NOW))).await;
    for len in [10, 6 * CHUNK] {
        let written = store.write("a", pattern(1, len), Draft::new()).await;
        assert!(written.unwrap().is_done());
        let fence = store.fence(key("a")).await.unwrap();
        let written = store.write("a", pattern(2, len), until(NOW)).await;
        assert!(written.unwrap().is_done());
        is_absent(&store, "a").await;
        assert!(!set_fenced(&store, "a", 3, &fence).await);
    }
}

#[tokio::test]
async fn an_absurd_time_to_live_is_none() {
    let server = Server::start();
    let store = at(&server, &Arc::new(AtomicU64::new(NOW))).await;
    for at in [u64::MAX, NOW + 100_000_000_000_001] {
        let written = store.write("a", pattern(1, 6 * CHUNK), until(at)).await;
        assert!(written.unwrap().is_done());
        assert_eq!(left(&server, &name(&server, "m")), None);
        finds(&store, "a", 1, 6 * CHUNK).await;
    }
    let late = until(NOW + 100_000_000_000_000);
    assert!(
        store
            .write("a", pattern(2, 6 * CHUNK), late)
            .await
            .unwrap()
            .is_done()
    );
    finds(&store, "a", 2, 6 * CHUNK).await;
    assert!(left(&server, &name(&server, "m")).is_some());
}

#[tokio::test]
async fn an_object_that_the_server_expires_is_a_miss_with_a_fence_that_holds() {
    let server = Server::start();
    let store = store_with(&server, |builder| builder.grace(Duration::from_secs(1))).await;
    let soon = Draft::new().with(|header| {
        #[allow(clippy::disallowed_methods)] // The store has the same clock.
        let now = Timestamp::now();
        header.expires_at = Some(now.after(Duration::from_millis(30)));
    });
    let written = store.write("a", pattern(1, 10), soon).await;
    assert!(written.unwrap().is_done());
    crate::common::eventually("it is gone", || names(&server, "*}:m:*").is_empty()).await;
    let fence = miss(&store, "a").await;
    assert!(set_fenced(&store, "a", 2, &fence).await);
}
