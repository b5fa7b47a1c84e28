//! Writers that are slow, or never finish.

use std::time::Duration;

use futures_util::FutureExt;
use larder_servers::Server;
use larder_store::{Draft, Store, StoreExt};
use tokio::time::sleep;

use crate::common::{
    CHUNK, chunks, eventually, finds, hit, is_absent, lasting, left, miss, names, pattern, set,
    store, store_with, writer,
};

const TTL: Duration = Duration::from_secs(1);

#[tokio::test]
async fn s63_what_a_writer_leaves_that_dies_half_way_expires_by_itself() {
    let server = Server::start();
    let store = store_with(&server, |builder| builder.staging_ttl(TTL)).await;
    let mut dying = writer(&store, "a", Draft::new()).await;
    dying.write(pattern(1, 5 * CHUNK + 1)).await.unwrap();
    // As in a process that is killed: nothing is dropped.
    std::mem::forget(dying);
    eventually("five chunks are there", || chunks(&server).len() == 5).await;
    for name in names(&server, "*") {
        assert!(left(&server, &name).unwrap() <= 1000, "{name}");
    }
    is_absent(&store, "a").await;
    eventually("they are gone", || chunks(&server).is_empty()).await;
}

#[tokio::test]
async fn s63_an_object_without_bytes_is_an_object() {
    let server = Server::start();
    let store = store(&server).await;
    set(&store, "a", 1, 0).await;
    finds(&store, "a", 1, 0).await;
    assert_eq!(chunks(&server).len(), 0);
    store.remove("a").await.unwrap();
    is_absent(&store, "a").await;
}

#[tokio::test]
async fn a_slow_writer_keeps_its_first_chunks_and_its_fence() {
    let server = Server::start();
    let store = store_with(&server, |builder| builder.staging_ttl(TTL).fence_ttl(TTL)).await;
    let fence = miss(&store, "a").await;
    let mut slow = writer(&store, "a", Draft::new().fence(fence)).await;
    let body = pattern(1, 8 * CHUNK);
    for part in 0..8 {
        slow.write(body.slice(part * CHUNK..(part + 1) * CHUNK))
            .await
            .unwrap();
        sleep(TTL / 3).await;
    }
    assert!(slow.commit().await.unwrap().is_done());
    finds(&store, "a", 1, 8 * CHUNK).await;
}

#[tokio::test]
async fn a_writer_whose_chunks_are_gone_is_not_committed() {
    let server = Server::start();
    let store = store(&server).await;
    set(&store, "a", 1, 3 * CHUNK).await;
    let old = chunks(&server);
    for lost in [0, 2, 4] {
        let mut unlucky = writer(&store, "a", Draft::new()).await;
        unlucky.write(pattern(2, 5 * CHUNK + 1)).await.unwrap();
        eventually("five chunks are there", || chunks(&server).len() == 8).await;
        let mut staged = chunks(&server);
        staged.retain(|name| !old.contains(name));
        server.ask::<()>(&["DEL", &staged[lost]]);
        unlucky.commit().await.unwrap_err();
        finds(&store, "a", 1, 3 * CHUNK).await;
        eventually("what is left of it is gone", || chunks(&server) == old).await;
    }
    assert_eq!(lasting(&server).len(), 4, "a manifest and its chunks");
}

#[tokio::test]
async fn a_writer_that_is_given_up_or_refused_leaves_nothing() {
    let server = Server::start();
    let store = store(&server).await;
    for way in ["drop", "abort", "superseded", "too short"] {
        let fence = miss(&store, "a").await;
        let draft = match way {
            "too short" => Draft::new().len(7 * CHUNK as u64),
            _ => Draft::new().fence(fence),
        };
        let mut writer = writer(&store, "a", draft).await;
        writer.write(pattern(1, 6 * CHUNK)).await.unwrap();
        assert_eq!(store.usage().staged, 6 * CHUNK as u64);
        match way {
            "drop" => drop(writer),
            "abort" => {
                writer.abort().await.unwrap();
                assert_eq!(chunks(&server), Vec::<String>::new(), "abort waits");
            }
            "superseded" => {
                store.remove("a").await.unwrap();
                assert!(!writer.commit().await.unwrap().is_done());
            }
            _ => assert!(writer.commit().await.unwrap_err().is_corrupt()),
        }
        assert_eq!(store.usage().staged, 0, "{way}");
        eventually(way, || chunks(&server).is_empty()).await;
        is_absent(&store, "a").await;
    }
    assert_eq!(lasting(&server), Vec::<String>::new());
}

#[tokio::test]
async fn a_cancelled_commit_of_many_chunks_is_done_or_not() {
    let server = Server::start();
    let store = store(&server).await;
    let mut done = 0;
    for round in 0..20 {
        let name = format!("{round}");
        let mut writer = writer(&store, &name, Draft::new()).await;
        writer.write(pattern(round, 6 * CHUNK)).await.unwrap();
        let time = Duration::from_micros(50 * round);
        let committed = tokio::time::timeout(time, writer.commit()).await.is_ok();
        // A later operation: what the commit did, it has done.
        if store.exists(&name).await.unwrap() {
            finds(&store, &name, round, 6 * CHUNK).await;
            done += 1;
        } else {
            assert!(!committed, "an acknowledged commit is gone");
        }
    }
    // What was not published does not stay.
    assert_eq!(lasting(&server).len(), done * 7);
}

#[tokio::test]
async fn a_writer_of_which_a_write_was_cancelled_is_not_committed() {
    let server = Server::start();
    let store = store(&server).await;
    for is_polled in [false, true] {
        let mut spoilt = writer(&store, "a", Draft::new()).await;
        let mut reply = spoilt.write(pattern(1, 9 * CHUNK));
        assert!(!reply.is_ready(), "it has to wait for the server");
        if is_polled {
            assert!((&mut reply).now_or_never().is_none());
        }
        drop(reply);
        assert!(spoilt.write("x".into()).await.unwrap_err().is_invalid());
        assert!(spoilt.commit().await.unwrap_err().is_invalid());
        is_absent(&store, "a").await;
        eventually("nothing is left", || chunks(&server).is_empty()).await;
    }
}

/// `cargo test -p larder-redis --release --test scenarios -- --ignored gibibyte`
#[tokio::test]
#[ignore = "takes more than a gibibyte of memory, and some seconds"]
async fn s63_an_object_of_a_gibibyte() {
    const PIECE: usize = 1 << 20;
    let server = Server::start();
    let store = store_with(&server, |builder| builder.chunk_size(1 << 20)).await;
    let mut writer = writer(&store, "a", Draft::new().len(1 << 30)).await;
    for piece in 0..1024 {
        writer.write(pattern(piece, PIECE)).await.unwrap();
    }
    assert!(writer.commit().await.unwrap().is_done());
    let mut body = hit(&store, "a").await.body;
    let mut read = bytes::BytesMut::new();
    for piece in 0..1024 {
        while read.len() < PIECE {
            read.extend_from_slice(&body.chunk().await.unwrap().expect("not the end"));
        }
        assert!(
            read.split_to(PIECE) == pattern(piece, PIECE),
            "piece {piece}"
        );
    }
    assert!(body.chunk().await.unwrap().is_none() && read.is_empty());
}
