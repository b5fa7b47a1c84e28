//! Fences between processes: each handle here has connections and nonces of its own.

use larder_servers::Server;
use larder_store::{Draft, Store, StoreExt};

use crate::common::{
    CHUNK, finds, is_absent, key, left, miss, name, names, set, set_fenced, store, store_with,
};

#[tokio::test]
async fn s16_what_another_process_does_ends_a_fence() {
    let server = Server::start();
    let (mine, other) = (store(&server).await, store(&server).await);
    for present in [false, true] {
        for event in ["set", "set and delete", "delete", "touch", "fenced set"] {
            mine.remove("a").await.unwrap();
            let early = if present {
                set(&mine, "a", 1, 100).await;
                mine.fence(key("a")).await.unwrap()
            } else {
                miss(&mine, "a").await
            };
            match event {
                "set" => drop(set(&other, "a", 2, 100).await),
                "delete" => other.remove("a").await.unwrap(),
                "touch" if !present => continue,
                "touch" => {
                    let touch = other.as_touch().unwrap();
                    let touched = touch.touch(key("a"), Draft::new()).await.unwrap();
                    assert!(touched.is_done());
                }
                "fenced set" => {
                    let fence = other.fence(key("a")).await.unwrap();
                    assert!(set_fenced(&other, "a", 2, &fence).await);
                }
                // As it was, as far as anybody who looks can tell.
                _ => {
                    set(&other, "a", 2, 100).await;
                    other.remove("a").await.unwrap();
                    if present {
                        set(&other, "a", 1, 100).await;
                    }
                }
            }
            // Somebody else has a fence by now: that is another one.
            let later = other.fence(key("a")).await.unwrap();
            assert!(!set_fenced(&mine, "a", 9, &early).await, "after a {event}");
            let deleted = mine.delete(key("a"), Some(early)).await.unwrap();
            assert!(!deleted.is_done(), "after a {event}");
            assert!(set_fenced(&other, "a", 3, &later).await, "nothing was done");
            finds(&mine, "a", 3, 3 * CHUNK).await;
        }
    }
}

#[tokio::test]
async fn of_two_processes_that_miss_one_fills() {
    let server = Server::start();
    let stores = [store(&server).await, store(&server).await];
    for round in 0..30 {
        let name = format!("{round}");
        let fences = [miss(&stores[0], &name).await, miss(&stores[1], &name).await];
        let (first, second) = tokio::join!(
            set_fenced(&stores[0], &name, 1, &fences[0]),
            set_fenced(&stores[1], &name, 2, &fences[1]),
        );
        assert!(first ^ second, "{first} and {second}");
        finds(&stores[1], &name, if first { 1 } else { 2 }, 3 * CHUNK).await;
    }
}

#[tokio::test]
async fn a_fence_that_the_server_has_lost_does_not_hold() {
    let server = Server::start();
    let store = store(&server).await;
    for loss in ["DEL", "another type", "FLUSHALL", "another marker"] {
        let fence = miss(&store, "a").await;
        let marker = name(&server, "f");
        assert!(left(&server, &marker).unwrap() <= 600_000);
        match loss {
            "FLUSHALL" => server.ask::<()>(&["FLUSHALL"]),
            "another marker" => server.ask::<()>(&["SET", &marker, "0123456789abcdef"]),
            _ => server.ask::<()>(&["DEL", &marker]),
        }
        if loss == "another type" {
            server.ask::<()>(&["RPUSH", &marker, "x"]);
        }
        assert!(!set_fenced(&store, "a", 1, &fence).await, "{loss}");
        let deleted = store.delete(key("a"), Some(fence)).await.unwrap();
        assert!(!deleted.is_done(), "{loss}");
        is_absent(&store, "a").await;
        let fence = miss(&store, "a").await;
        assert!(set_fenced(&store, "a", 2, &fence).await, "after {loss}");
        store.remove("a").await.unwrap();
    }
}

#[tokio::test]
async fn prefixes_share_nothing() {
    let server = Server::start();
    let mine = store_with(&server, |builder| builder.prefix("mine")).await;
    let other = store_with(&server, |builder| builder.prefix("mine:too")).await;
    set(&mine, "a", 1, 3 * CHUNK).await;
    is_absent(&other, "a").await;
    let fence = mine.fence(key("a")).await.unwrap();
    set(&other, "a", 2, 3 * CHUNK).await;
    other.remove("a").await.unwrap();
    finds(&mine, "a", 1, 3 * CHUNK).await;
    assert!(set_fenced(&mine, "a", 3, &fence).await);
    assert_eq!(names(&server, "mine:*}:m:a").len(), 1);
}
