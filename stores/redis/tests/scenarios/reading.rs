//! Readers, and what happens to the object while they read.

use std::time::Duration;

use larder_servers::Server;
use larder_store::{ByteRange, Draft, Lookup, Store, StoreExt};

use crate::common::{
    CHUNK, chunks, eventually, finds, hit, is_absent, key, left, miss, name, names, pattern, set,
    set_fenced, store, store_with,
};

const LEN: usize = 10 * CHUNK + 77;

#[tokio::test]
async fn s62_a_range_over_several_chunks_is_of_one_version_to_its_end() {
    let server = Server::start();
    let (reader, other) = (store(&server).await, store(&server).await);
    for event in ["set", "set and delete", "delete", "touch"] {
        set(&other, "a", 1, LEN).await;
        let range = CHUNK as u64 / 2..9 * CHUNK as u64 + 10;
        let asked = ByteRange::try_from(range.clone()).unwrap();
        let Lookup::Hit(mut object) = reader.get_stream(key("a"), asked).await.unwrap() else {
            panic!("it is there");
        };
        assert_eq!(object.range, range);
        let mut read = object.body.chunk().await.unwrap().unwrap().to_vec();
        assert!(read.len() < CHUNK, "a part of the first chunk");
        match event {
            "set" => drop(set(&other, "a", 2, LEN).await),
            "delete" => other.remove("a").await.unwrap(),
            "touch" => {
                let touch = other.as_touch().unwrap();
                let touched = touch.touch(key("a"), Draft::new()).await;
                assert!(touched.unwrap().is_done());
            }
            _ => {
                set(&other, "a", 2, LEN).await;
                other.remove("a").await.unwrap();
            }
        }
        while let Some(chunk) = object.body.chunk().await.unwrap() {
            read.extend_from_slice(&chunk);
        }
        let wanted = &pattern(1, LEN)[CHUNK / 2..9 * CHUNK + 10];
        assert!(read == wanted, "other bytes after a {event}");
    }
}

#[tokio::test]
async fn after_the_grace_a_body_ends_in_an_error() {
    let server = Server::start();
    let grace = Duration::from_secs(1);
    let store = store_with(&server, |builder| builder.grace(grace).read_ahead(1)).await;
    for event in ["set", "delete"] {
        set(&store, "a", 1, LEN).await;
        let old = chunks(&server);
        let mut body = hit(&store, "a").await.body;
        body.chunk().await.unwrap();
        let is_set = event == "set";
        if is_set {
            set(&store, "a", 2, LEN).await;
        } else {
            store.remove("a").await.unwrap();
        }
        for name in &old {
            assert!(left(&server, name).unwrap() <= 1000, "{name}");
        }
        eventually("the old chunks are gone", || {
            old.iter()
                .all(|name| server.ask::<u32>(&["EXISTS", name]) == 0)
        })
        .await;
        let error = loop {
            match body.chunk().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a clean end that is none, after a {event}"),
                Err(error) => break error,
            }
        };
        assert!(!error.is_corrupt(), "nothing is broken: {error:?}");
        if is_set {
            finds(&store, "a", 2, LEN).await;
        } else {
            is_absent(&store, "a").await;
        }
    }
}

#[tokio::test]
async fn s64_metadata_without_data_is_a_miss_and_is_cleaned() {
    let server = Server::start();
    let store = store(&server).await;
    for lost in [0, 5, 10] {
        set(&store, "a", 1, LEN).await;
        let chunks = chunks(&server);
        let of_a = name(&server, "m");
        assert_eq!(chunks.len(), 11);
        server.ask::<()>(&["DEL", &chunks[lost]]);
        let fence = miss(&store, "a").await;
        assert_eq!(server.ask::<u32>(&["EXISTS", &of_a]), 0, "it is cleaned");
        for name in chunks.iter().filter(|name| **name != chunks[lost]) {
            assert!(left(&server, name).is_some(), "{name} is left behind");
        }
        assert!(set_fenced(&store, "a", 2, &fence).await, "nothing happened");
        finds(&store, "a", 2, 3 * CHUNK).await;
        server.ask::<()>(&["FLUSHALL"]);
    }
}

#[tokio::test]
async fn s57_a_chunk_that_is_lost_or_altered_under_a_reader_is_corrupt() {
    let server = Server::start();
    let store = store_with(&server, |builder| builder.read_ahead(1)).await;
    for place in ["0", "100", "4096", "4099"] {
        for damage in ["lost", "altered", "short", "another type"] {
            set(&store, "a", 1, LEN).await;
            let mut body = hit(&store, "a").await.body;
            body.chunk().await.unwrap();
            let victim = &chunks(&server)[7];
            match damage {
                "lost" => server.ask::<()>(&["DEL", victim]),
                "altered" => server.ask::<()>(&["SETRANGE", victim, place, "\x01\x02"]),
                "short" => server.ask::<()>(&["SET", victim, "x"]),
                _ => {
                    server.ask::<()>(&["DEL", victim]);
                    server.ask::<()>(&["RPUSH", victim, "x"]);
                }
            }
            let error = loop {
                match body.chunk().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("a clean end, {damage} at {place}"),
                    Err(error) => break error,
                }
            };
            assert!(error.is_corrupt(), "{error:?}, {damage} at {place}");
            is_absent(&store, "a").await;
            set(&store, "a", 3, LEN).await;
            finds(&store, "a", 3, LEN).await;
            server.ask::<()>(&["FLUSHALL"]);
        }
    }
}

#[tokio::test]
async fn a_small_part_of_a_chunk_is_checked_as_well() {
    let server = Server::start();
    let store = store_with(&server, |builder| builder.chunk_size(1 << 20)).await;
    set(&store, "a", 1, 3 << 20).await;
    let asked = ByteRange::try_from(2_000_000..2_000_010).unwrap();
    let read = store.read_range("a", asked, 10).await.unwrap().unwrap();
    assert_eq!(read, pattern(1, 3 << 20)[2_000_000..2_000_010]);
    let in_chunk = (2_000_005 - (1 << 20)).to_string();
    server.ask::<()>(&["SETRANGE", &chunks(&server)[1], &in_chunk, "\x01\x02"]);
    assert_eq!(store.read_range("a", asked, 10).await.unwrap(), None);
    assert_eq!(names(&server, "*}:m:*"), Vec::<String>::new());
}
