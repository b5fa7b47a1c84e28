//! A server that is full, that evicts, and that forgets everything.

use std::collections::HashMap;

use larder_servers::Server;
use larder_store::{ByteRange, Draft, ErrorKind, Lookup, Store, StoreExt};

use crate::common::{
    CHUNK, chunks, finds, hit, is_absent, key, lasting, look, miss, pattern, set, set_fenced,
    store, writer,
};

const LEN: usize = 20 * CHUNK;

#[tokio::test]
async fn s64_a_server_that_evicts_gives_whole_objects_or_misses() {
    let server = Server::builder()
        .config("maxmemory", "4mb")
        .config("maxmemory-policy", "allkeys-lru")
        .start();
    let store = store(&server).await;
    let (mut hits, mut misses) = (0, 0);
    let mut written = HashMap::new();
    for id in 0..300_u64 {
        // Some are asked for all the time, the others hardly ever.
        let name = if id % 2 == 0 {
            format!("hot/{}", id / 2 % 5)
        } else {
            format!("{}", id % 80)
        };
        let draft = match look(&store, &name).await {
            Lookup::Hit(object) => {
                // A chunk may go while it is read; then that is not the end.
                match object.body.bytes(LEN as u64).await {
                    Ok(body) => assert!(body == pattern(written[&name], LEN), "of {name}"),
                    Err(error) => assert!(error.is_corrupt() || error.kind() == ErrorKind::Other),
                }
                hits += 1;
                continue;
            }
            Lookup::Miss(fence) => Draft::new().fence(fence),
        };
        misses += 1;
        // Its marker, or what it has staged, may be evicted as well.
        match store.write(&name, pattern(id, LEN), draft).await {
            Ok(commit) if commit.is_done() => drop(written.insert(name, id)),
            Ok(_) => store.remove(&name).await.unwrap(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Other, "{error:?}");
                store.remove(&name).await.unwrap();
            }
        }
    }
    assert!(misses > 80, "nothing was evicted");
    assert!(hits > 0, "everything was evicted");
}

#[tokio::test]
async fn a_full_server_refuses_what_is_new_and_gives_what_it_has() {
    let server = Server::builder()
        .config("maxmemory", "4mb")
        .config("maxmemory-policy", "noeviction")
        .start();
    let store = store(&server).await;
    set(&store, "first", 1, LEN).await;
    set(&store, "small", 1, 100).await;
    let held = store.fence(key("first")).await.unwrap();
    let mut id = 0;
    let error = loop {
        let written = store
            .write(&format!("{id}"), pattern(id, LEN), Draft::new())
            .await;
        match written {
            Ok(commit) => assert!(commit.is_done()),
            Err(error) => break error,
        }
        id += 1;
        assert!(id < 100, "it is never full");
    };
    assert!(error.is_full(), "{error:?}");
    // To the last byte, so that what is small is refused as well.
    let error = loop {
        let name = format!("small/{id}");
        if let Err(error) = store.write(&name, pattern(1, 100), Draft::new()).await {
            break error;
        }
        id += 1;
        assert!(id < 10_000, "there is no end to it");
    };
    assert!(error.is_full(), "{error:?}");
    // Too long to go to the server as an argument, and short enough for a manifest.
    let staged = pattern(1, CHUNK - 1);
    let error = store.write("first", staged, Draft::new()).await;
    let error = error.unwrap_err();
    assert!(error.is_full(), "{error:?}");
    finds(&store, "small", 1, 100).await;
    finds(&store, "first", 1, LEN).await;
    match store.get_stream(key("absent"), ByteRange::FULL).await {
        Ok(Lookup::Hit(object)) => panic!("it is absent: {object:?}"),
        // There was room for the marker after all.
        Ok(Lookup::Miss(_)) => {}
        Err(error) => assert!(error.is_full(), "{error:?}"),
    }

    // What is there can be deleted, and then there is room again.
    let deleted = store.delete(key("first"), Some(held)).await.unwrap();
    assert!(deleted.is_done());
    for chunk in chunks(&server) {
        if server.ask::<i64>(&["PTTL", &chunk]) > 0 {
            server.ask::<()>(&["DEL", &chunk]);
        }
    }
    is_absent(&store, "first").await;
    set(&store, "small", 3, 100).await;
    finds(&store, "small", 3, 100).await;
}

#[tokio::test]
async fn a_server_that_forgets_everything_is_empty_and_works() {
    let server = Server::start();
    let store = store(&server).await;
    set(&store, "a", 1, LEN).await;
    set(&store, "small", 1, 10).await;
    let fence = store.fence(key("a")).await.unwrap();
    let mut body = hit(&store, "a").await.body;
    body.chunk().await.unwrap();
    let small = hit(&store, "small").await.body;
    let mut writing = writer(&store, "b", Draft::new()).await;
    writing.write(pattern(2, LEN)).await.unwrap();
    let mut short = writer(&store, "c", Draft::new()).await;
    short.write(pattern(3, 10)).await.unwrap();

    server.ask::<()>(&["FLUSHALL"]);
    server.ask::<()>(&["SCRIPT", "FLUSH"]);

    assert_eq!(
        small.bytes(10).await.unwrap(),
        pattern(1, 10),
        "it was here"
    );
    loop {
        match body.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a clean end that is none"),
            Err(_) => break,
        }
    }
    assert!(
        !set_fenced(&store, "a", 3, &fence).await,
        "the marker is gone"
    );
    assert_eq!(writing.commit().await.unwrap_err().kind(), ErrorKind::Other);
    for name in ["a", "b"] {
        is_absent(&store, name).await;
    }
    assert!(
        short.commit().await.unwrap().is_done(),
        "nothing was staged"
    );
    finds(&store, "c", 3, 10).await;
    let fence = miss(&store, "a").await;
    assert!(set_fenced(&store, "a", 4, &fence).await);
    finds(&store, "a", 4, 3 * CHUNK).await;
    assert_eq!(lasting(&server).len(), 5, "a, its chunks, and c");
}
