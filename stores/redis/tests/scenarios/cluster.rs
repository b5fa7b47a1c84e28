//! A cluster, and its slots on their way from node to node.

use std::time::Duration;

use larder_redis::Redis;
use larder_servers::Cluster;
use larder_store::{Draft, Store, StoreExt};

use crate::common::{CHUNK, finds, hit, is_absent, key, names, pattern, set};

const LEN: usize = 20 * CHUNK + 77;

async fn store(cluster: &Cluster) -> Redis {
    let builder = Redis::cluster(cluster.urls()).chunk_size(4 << 10);
    let builder = builder
        .response_timeout(Duration::from_secs(10))
        .read_ahead(1);
    builder.connect().await.unwrap()
}

/// The slot of all that the cluster holds, and the node that has it.
fn only_slot(cluster: &Cluster) -> (u16, usize) {
    let all: Vec<String> = cluster
        .nodes()
        .iter()
        .flat_map(|node| names(node, "*"))
        .collect();
    let slots: Vec<u16> = all.iter().map(|name| cluster.slot(name)).collect();
    assert!(
        all.len() > 20 && slots.iter().all(|slot| *slot == slots[0]),
        "{all:?}"
    );
    (slots[0], cluster.owner(slots[0]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s66_a_slot_moves_while_its_object_is_read() {
    let cluster = Cluster::start();
    let store = store(&cluster).await;
    set(&store, "a", 1, LEN).await;
    // All names of one object stay in one slot.
    let (slot, from) = only_slot(&cluster);
    let mut body = hit(&store, "a").await.body;
    let mut read = body.chunk().await.unwrap().unwrap().to_vec();
    let moving = cluster.begin_move(slot, (from + 1) % 3);
    while moving.keys(3) > 0 {
        if let Some(chunk) = body.chunk().await.unwrap() {
            read.extend_from_slice(&chunk);
        }
        // Who opens it half-way finds all of it as well.
        assert!(store.stat(key("a")).await.unwrap().is_some());
    }
    moving.finish();
    while let Some(chunk) = body.chunk().await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert!(
        read == pattern(1, LEN),
        "other bytes after the slot has moved"
    );
    finds(&store, "a", 1, LEN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s66_a_slot_moves_while_its_object_is_replaced_and_deleted() {
    let cluster = Cluster::start();
    let (store, reader) = (store(&cluster).await, store(&cluster).await);
    for (round, id) in [2, 3].into_iter().enumerate() {
        set(&store, "a", 1, LEN).await;
        let (slot, from) = only_slot(&cluster);
        let moving = cluster.begin_move(slot, (from + 1) % 3);
        moving.keys(7);
        let replaced = {
            let store = store.clone();
            tokio::spawn(async move {
                let written = store.write("a", pattern(id, LEN), Draft::new()).await;
                written.map(|commit| commit.is_done())
            })
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        while moving.keys(7) > 0 {}
        moving.finish();
        // Done, or said not to be: while its names are on two nodes no script can have them all.
        let is_done = replaced.await.unwrap().is_ok_and(|done| done);
        let object = hit(&reader, "a").await;
        let body = object.body.bytes(LEN as u64).await.unwrap();
        let wanted = if is_done { id } else { 1 };
        assert!(
            body == pattern(wanted, LEN) || body == pattern(id, LEN),
            "round {round}"
        );
        set(&store, "a", id + 10, LEN).await;
        finds(&reader, "a", id + 10, LEN).await;
        store.remove("a").await.unwrap();
        is_absent(&reader, "a").await;
        // What is left of the old versions expires, so that the next round has one slot again.
    }
}
