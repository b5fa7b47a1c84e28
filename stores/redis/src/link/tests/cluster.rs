//! S66: a cluster of three nodes.

use std::{collections::HashSet, sync::Arc};

use larder_servers::Cluster;
use tokio::{sync::Barrier, time::timeout};

use super::{
    super::{Link, Script, Settings},
    PATIENCE, get, set, settings,
};

fn of(cluster: &Cluster) -> Settings {
    Settings {
        urls: cluster.urls(),
        cluster: true,
        connections: 2,
        ..settings("")
    }
}

/// A name of the object with this hash.
fn name(hash: u64, part: &str) -> String {
    format!("p:{{{hash:016x}}}:{part}")
}

#[tokio::test(flavor = "multi_thread")]
async fn s66_requests_find_their_nodes_and_follow_a_slot_that_moves() {
    let cluster = Cluster::start();
    let link = Link::connect(of(&cluster)).await.unwrap();
    finds_every_node(&cluster, &link).await;
    scripts_and_pipelines_work(&link).await;
    follows_a_slot(&cluster, &link).await;
    answers_while_a_slot_is_half_moved(&cluster, &link).await;
    learns_of_a_node_that_is_back(&cluster, &link).await;
}

async fn finds_every_node(cluster: &Cluster, link: &Link) {
    let mut owners = HashSet::new();
    for hash in 0..60 {
        let name = name(hash, "m");
        owners.insert(cluster.owner(cluster.slot(&name)));
        link.command::<()>(hash, &set(&name, &hash.to_string()))
            .await
            .unwrap();
        let value: u64 = link.read(hash, &get(&name)).await.unwrap();
        assert_eq!(value, hash);
    }
    assert_eq!(owners.len(), 3, "the hashes are of all nodes");
    let mut scan = link.scan(b"p:*:m".to_vec(), 10);
    let mut names = HashSet::new();
    while let Some(some) = scan.next().await.unwrap() {
        names.extend(some);
    }
    assert_eq!(names.len(), 60);
    let mut pubsub = link.pubsub().await.unwrap();
    pubsub.subscribe("bus").await.unwrap();
}

async fn scripts_and_pipelines_work(link: &Link) {
    let script = Script::new("return redis.call('INCR', KEYS[1])");
    for hash in 0..10 {
        let name = name(hash, "n");
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(&name).arg(hash).ignore();
        pipeline.cmd("INCR").arg(&name);
        let (sum,): (u64,) = link.pipeline(hash, &pipeline).await.unwrap();
        assert_eq!(sum, hash + 1);
        let sum: u64 = link
            .run(hash, &script, &[name.as_bytes()], &[])
            .await
            .unwrap();
        assert_eq!(sum, hash + 2);
    }
}

/// Counts go up by one each, whatever moves: nothing is lost, nothing runs twice.
async fn follows_a_slot(cluster: &Cluster, link: &Link) {
    let counter = name(7, "counter");
    let slot = cluster.slot(&counter);
    let begun = Arc::new(Barrier::new(2));
    let counting = tokio::spawn({
        let (link, counter, begun) = (link.clone(), counter.clone(), begun.clone());
        async move {
            for expected in 1..=2000_u64 {
                if expected == 100 {
                    begun.wait().await;
                }
                let mut incr = redis::cmd("INCR");
                incr.arg(&counter);
                let count: u64 = link.command(7, &incr).await.unwrap();
                assert_eq!(count, expected);
            }
        }
    });
    begun.wait().await;
    for _ in 0..4 {
        let to = (cluster.owner(slot) + 1) % 3;
        tokio::task::block_in_place(|| cluster.move_slot(slot, to));
    }
    timeout(PATIENCE, counting).await.unwrap().unwrap();
}

async fn answers_while_a_slot_is_half_moved(cluster: &Cluster, link: &Link) {
    let (here, there) = (name(7, "counter"), name(7, "new"));
    let slot = cluster.slot(&here);
    let to = (cluster.owner(slot) + 1) % 3;
    let moving = cluster.begin_move(slot, to);
    // A new name belongs to where the slot moves: the node says ASK.
    link.command::<()>(7, &set(&there, "1")).await.unwrap();
    let mut pipeline = redis::pipe();
    pipeline
        .cmd("GET")
        .arg(&here)
        .cmd("INCR")
        .arg(&there)
        .cmd("GET")
        .arg(&there);
    let values: (u64, u64, u64) = link.pipeline(7, &pipeline).await.unwrap();
    assert_eq!(values, (2000, 2, 2));
    // Names on both sides: the script waits until they are together.
    let script = Script::new("return redis.call('GET', KEYS[1]) + redis.call('GET', KEYS[2])");
    let keys = [here.as_bytes(), there.as_bytes()];
    let adding = link.run::<u64>(7, &script, &keys, &[]);
    let moved = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        tokio::task::block_in_place(|| {
            while moving.keys(100) > 0 {}
            moving.finish();
        });
    };
    let (sum, ()) = tokio::join!(adding, moved);
    assert_eq!(sum.unwrap(), 2002);
}

async fn learns_of_a_node_that_is_back(cluster: &Cluster, link: &Link) {
    let name = name(7, "m");
    let owner = cluster.owner(cluster.slot(&name));
    cluster.kill(owner);
    let down = async { while link.read::<()>(7, &get(&name)).await.is_ok() {} };
    timeout(PATIENCE, down).await.unwrap();
    tokio::task::block_in_place(|| {
        cluster.restart(owner);
        cluster.wait_until_whole();
    });
    let served = async { while link.command::<()>(7, &set(&name, "1")).await.is_err() {} };
    timeout(PATIENCE, served).await.unwrap();
}

#[tokio::test]
async fn a_server_without_cluster_is_no_cluster() {
    let server = larder_servers::Server::start();
    let settings = Settings {
        cluster: true,
        ..settings(&server.url())
    };
    let refused = Link::connect(settings).await.err().unwrap();
    assert!(refused.is_invalid(), "{refused:?}");
}
