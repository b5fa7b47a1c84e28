//! Leases between processes.

use std::time::Duration;

use larder_redis::Redis;
use larder_servers::Server;
use larder_store::{Draft, Fence, Lease, Leased, Store, StoreExt, Terms};

use crate::common::{
    CHUNK, eventually, finds, is_absent, key, left, miss, name, names, set, set_fenced, store,
};

fn terms(who: &str, ttl: u64) -> Terms {
    Terms {
        who: who.into(),
        why: "fill".into(),
        ttl: Duration::from_millis(ttl),
    }
}

async fn acquire(store: &Redis, fence: &Fence, terms: &Terms) -> Leased {
    store.acquire(key("a"), fence, terms).await.unwrap()
}

async fn granted(store: &Redis, fence: &Fence, terms: &Terms) -> Fence {
    match acquire(store, fence, terms).await {
        Leased::Granted(fence) => fence,
        other => panic!("nobody holds it, and yet {other:?}"),
    }
}

#[tokio::test]
async fn s68_a_holder_that_is_past_its_lease_is_fenced_off() {
    let server = Server::start();
    let (paused, other) = (store(&server).await, store(&server).await);
    for taken_over in [false, true] {
        let fence = miss(&paused, "a").await;
        let held = granted(&paused, &fence, &terms("paused", 50)).await;
        eventually("the lease is over", || names(&server, "*:l:*").is_empty()).await;
        let next = if taken_over {
            let fence = miss(&other, "a").await;
            Some(granted(&other, &fence, &terms("next", 60_000)).await)
        } else {
            None
        };
        assert!(!set_fenced(&paused, "a", 1, &held).await, "{taken_over}");
        let deleted = paused.delete(key("a"), Some(held.clone())).await.unwrap();
        assert!(!deleted.is_done());
        let renewed = paused.renew(key("a"), &held, Duration::from_secs(9)).await;
        assert!(!renewed.unwrap(), "it cannot be had back");
        paused.release(key("a"), &held).await.unwrap();
        is_absent(&other, "a").await;
        if let Some(next) = next {
            assert!(
                set_fenced(&other, "a", 2, &next).await,
                "the next one's holds"
            );
            finds(&paused, "a", 2, 3 * CHUNK).await;
        }
        other.remove("a").await.unwrap();
    }
}

#[tokio::test]
async fn one_holds_a_lease_and_the_others_are_told_who() {
    let server = Server::start();
    let (mine, other) = (store(&server).await, store(&server).await);
    let (fence, others) = (miss(&mine, "a").await, miss(&other, "a").await);
    let held = granted(&mine, &fence, &terms("host é", 60_000)).await;
    let Leased::Taken(holder) = acquire(&other, &others, &terms("other", 9)).await else {
        panic!("it is taken");
    };
    assert_eq!((&*holder.who, &*holder.why), ("host é", "fill"));
    assert!(holder.left > Duration::from_secs(30) && holder.left <= Duration::from_secs(60));
    assert!(
        mine.renew(key("a"), &held, Duration::from_secs(600))
            .await
            .unwrap()
    );
    assert!(left(&server, &name(&server, "l")).unwrap() > 500_000);
    assert!(
        !other
            .renew(key("a"), &others, Duration::from_secs(9))
            .await
            .unwrap()
    );
    other.release(key("a"), &others).await.unwrap();
    assert_eq!(
        names(&server, "*:l:*").len(),
        1,
        "a stranger releases nothing"
    );

    mine.release(key("a"), &held).await.unwrap();
    assert!(!set_fenced(&mine, "a", 1, &held).await, "it was given up");
    let held = granted(&other, &others, &terms("other", 60_000)).await;
    // Without the lease's fence anyone may write; and that ends the lease.
    set(&mine, "a", 2, 10).await;
    assert_eq!(names(&server, "*:l:*"), Vec::<String>::new());
    assert!(!set_fenced(&other, "a", 1, &held).await);
    assert!(matches!(
        acquire(&other, &others, &terms("other", 9)).await,
        Leased::Superseded
    ));
    let fence = mine.fence(key("a")).await.unwrap();
    let held = granted(&mine, &fence, &terms("mine", 60_000)).await;
    let touch = mine.as_touch().unwrap();
    let touched = touch
        .touch(key("a"), Draft::new().fence(held))
        .await
        .unwrap();
    assert!(touched.is_done());
    assert_eq!(names(&server, "*:l:*").len(), 0, "a touch ends it, too");
    mine.remove("a").await.unwrap();
}

#[tokio::test]
async fn a_fence_lasts_as_long_as_its_lease() {
    let server = Server::start();
    let store = store(&server).await;
    let fence = miss(&store, "a").await;
    let _held = granted(&store, &fence, &terms("mine", 3_600_000)).await;
    assert!(left(&server, &name(&server, "f")).unwrap() > 3_500_000);
    // Taking another fence does not shorten it.
    miss(&store, "a").await;
    assert!(left(&server, &name(&server, "f")).unwrap() > 3_500_000);
}

#[tokio::test]
async fn a_lease_that_somebody_else_wrote_is_a_lease() {
    let server = Server::start();
    let store = store(&server).await;
    let fence = miss(&store, "a").await;
    let lease = name(&server, "f").replace(":f:", ":l:");
    for planted in [
        "x",
        "0123456789abcdef",
        "0123456789abcdef\x01\x00",
        "0123456789abcdef\x7f\x7fwho",
    ] {
        server.ask::<()>(&["SET", &lease, planted, "PX", "60000"]);
        let Leased::Taken(holder) = acquire(&store, &fence, &terms("mine", 9)).await else {
            panic!("{planted:?} is there");
        };
        assert_eq!(&*holder.who, "");
    }
    server.ask::<()>(&["DEL", &lease]);
    server.ask::<()>(&["RPUSH", &lease, "x"]);
    let held = granted(&store, &fence, &terms("mine", 60_000)).await;
    assert!(set_fenced(&store, "a", 1, &held).await);
}
