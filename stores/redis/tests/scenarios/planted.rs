//! Values under the store's names that no store has written.

use bytes::Bytes;
use futures_util::TryStreamExt;
use larder_redis::Redis;
use larder_servers::Server;
use larder_store::{ByteRange, Draft, List, Store, StoreExt};

use crate::common::{CHUNK, finds, is_absent, key, lasting, miss, name, set, set_fenced, store};

/// Puts these bytes under a name.
fn plant(server: &Server, name: &str, value: &[u8]) {
    let mut connection = server.connection();
    let planted = redis::cmd("SET")
        .arg(name)
        .arg(value)
        .query(&mut connection);
    let () = planted.unwrap();
}

/// The bytes under a name.
fn dig(server: &Server, name: &str) -> Vec<u8> {
    let mut connection = server.connection();
    redis::cmd("GET").arg(name).query(&mut connection).unwrap()
}

/// Every way to use a key that holds nonsense: none of it is seen, and it is replaced.
async fn is_healed(server: &Server, store: &Redis, plant: impl Fn()) {
    plant();
    assert_eq!(store.stat(key("a")).await.unwrap(), None);
    let fence = miss(store, "a").await;
    assert!(set_fenced(store, "a", 1, &fence).await, "by a fill");
    finds(store, "a", 1, 3 * CHUNK).await;
    plant();
    set(store, "a", 2, 100).await;
    finds(store, "a", 2, 100).await;
    plant();
    let touch = store.as_touch().unwrap();
    let touched = touch.touch(key("a"), Draft::new()).await.unwrap();
    assert!(!touched.is_done(), "there is no object");
    let fence = store.fence(key("a")).await.unwrap();
    let deleted = store.delete(key("a"), Some(fence)).await.unwrap();
    assert!(deleted.is_done());
    is_absent(store, "a").await;
    plant();
    assert_eq!(
        store
            .read_range("a", ByteRange::from(5..), 9)
            .await
            .unwrap(),
        None
    );
    is_absent(store, "a").await;
    store.remove("a").await.unwrap();
    let mut left = lasting(server);
    left.retain(|name| !name.contains(":c:"));
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test]
async fn s57_a_malformed_manifest_is_a_miss_and_is_replaced() {
    let server = Server::start();
    let store = store(&server).await;
    for len in [0, 3 * CHUNK] {
        set(&store, "a", 1, len).await;
        let manifest = name(&server, "m");
        let right = dig(&server, &manifest);
        for place in 0..right.len() {
            let mut bytes = right.clone();
            bytes[place] ^= 0x40;
            plant(&server, &manifest, &bytes);
            is_absent(&store, "a").await;
        }
        for bytes in [
            &b"x"[..],
            &[0; 200],
            &[255; 200],
            &right[..40],
            &right[..68],
            // As many chunks as can be told.
            &[
                &right[..5],
                &[1, 0, 0],
                &right[8..16],
                &[255; 4],
                &right[20..],
            ]
            .concat(),
        ] {
            is_healed(&server, &store, || plant(&server, &manifest, bytes)).await;
        }
    }
}

/// Metadata is told without a look at the body, also where that is inline.
#[tokio::test]
async fn s57_an_altered_inline_body_is_a_miss_and_is_cleaned() {
    let server = Server::start();
    let store = store(&server).await;
    set(&store, "a", 1, 10).await;
    let manifest = name(&server, "m");
    let right = dig(&server, &manifest);
    let mut altered = right.clone();
    altered[right.len() - 1] ^= 1;
    for bytes in [
        &altered[..],
        &right[..right.len() - 1],
        &[&right[..], b"x"].concat(),
    ] {
        plant(&server, &manifest, bytes);
        assert!(store.stat(key("a")).await.unwrap().is_some());
        let fence = miss(&store, "a").await;
        is_absent(&store, "a").await;
        assert!(set_fenced(&store, "a", 2, &fence).await);
        finds(&store, "a", 2, 3 * CHUNK).await;
    }
}

#[tokio::test]
async fn values_of_other_types_are_misses_and_are_replaced() {
    let server = Server::start();
    let store = store(&server).await;
    set(&store, "a", 1, 10).await;
    let manifest = name(&server, "m");
    is_healed(&server, &store, || {
        server.ask::<()>(&["DEL", &manifest]);
        server.ask::<()>(&["RPUSH", &manifest, "x"]);
    })
    .await;
    for kind in [":f:", ":l:"] {
        let name = manifest.replace(":m:", kind);
        is_healed(&server, &store, || {
            for name in [&name, &manifest] {
                server.ask::<()>(&["DEL", name]);
                server.ask::<()>(&["HSET", name, "x", "y"]);
            }
        })
        .await;
    }
}

#[tokio::test]
async fn an_empty_value_is_nothing() {
    let server = Server::start();
    let store = store(&server).await;
    set(&store, "a", 1, 10).await;
    let manifest = name(&server, "m");
    plant(&server, &manifest, b"");
    is_absent(&store, "a").await;
    let fence = miss(&store, "a").await;
    assert!(set_fenced(&store, "a", 2, &fence).await);
    finds(&store, "a", 2, 3 * CHUNK).await;
}

#[tokio::test]
async fn names_that_no_store_makes_are_not_listed() {
    let server = Server::start();
    let store = store(&server).await;
    set(&store, "a", 1, 10).await;
    let manifest = name(&server, "m");
    for other in [
        manifest.replace(":m:a", ":m:b"),
        manifest.replace(":m:a", ":m:"),
        manifest.replace("larder:", "larderx:"),
        "larder:{0123456789abcdef}:m:a".to_owned(),
        "larder:{}:m:a".to_owned(),
    ] {
        plant(&server, &other, b"x");
    }
    plant(&server, "larder", b"x");
    let listed: Vec<_> = store.list("").try_collect().await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].as_key(), key("a"));
}

#[tokio::test]
async fn an_object_of_another_format_is_left_to_expire_with_its_chunks() {
    let server = Server::start();
    let store = store(&server).await;
    set(&store, "a", 1, 3 * CHUNK).await;
    let manifest = name(&server, "m");
    let mut newer = dig(&server, &manifest);
    newer[4] = 2;
    plant(&server, &manifest, &newer);
    is_absent(&store, "a").await;
    // Which chunks it has cannot be known.
    assert_eq!(lasting(&server).len(), 3);
    assert_eq!(dig_bytes(&store).await, None);
}

async fn dig_bytes(store: &Redis) -> Option<Bytes> {
    store.read("a", u64::MAX).await.unwrap()
}
