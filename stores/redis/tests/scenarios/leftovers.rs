//! Nothing stays in the server that nobody will ever ask for.

use larder_servers::Server;
use larder_store::{ByteRange, Draft, Lease, Leased, Store, StoreExt, Terms};

use crate::common::{CHUNK, chunks, key, lasting, miss, pattern, set, set_fenced, store, writer};

#[tokio::test]
async fn when_all_is_deleted_every_name_that_is_left_expires() {
    let server = Server::start();
    let (store, other) = (store(&server).await, store(&server).await);
    for round in 0..40_u64 {
        let name = format!("{}", round % 5);
        let len = usize::try_from(round * 7919 % 60_000).unwrap();
        set(&store, &name, round, len).await;
        let fence = other.fence(key(&name)).await.unwrap();
        match round % 4 {
            0 => assert!(set_fenced(&other, &name, round, &fence).await),
            1 => {
                let touch = other.as_touch().unwrap();
                let touched = touch.touch(key(&name), Draft::new().fence(fence)).await;
                assert!(touched.unwrap().is_done());
            }
            2 => {
                let terms = Terms {
                    who: "me".into(),
                    why: "refresh".into(),
                    ttl: std::time::Duration::from_secs(60),
                };
                let leased = other.acquire(key(&name), &fence, &terms).await.unwrap();
                assert!(matches!(leased, Leased::Granted(_)));
            }
            _ => {
                let mut writer = writer(&other, &name, Draft::new()).await;
                writer.write(pattern(round, 5 * CHUNK)).await.unwrap();
                drop(writer);
            }
        }
        miss(&store, &format!("absent/{round}")).await;
        let range = ByteRange::suffix(1).unwrap();
        drop(store.read_range(&name, range, 1).await);
    }
    assert!(!lasting(&server).is_empty(), "objects last");
    for name in 0..5 {
        store.remove(&format!("{name}")).await.unwrap();
    }
    assert_eq!(lasting(&server), Vec::<String>::new());
}

#[tokio::test]
async fn a_replaced_object_leaves_no_chunk_for_ever() {
    let server = Server::start();
    let store = store(&server).await;
    for round in 0..10 {
        set(&store, "a", round, 5 * CHUNK).await;
        assert_eq!(lasting(&server).len(), 6, "a manifest and its chunks");
    }
    assert_eq!(
        chunks(&server).len(),
        50,
        "within the grace all can be read"
    );
    set(&store, "a", 0, 10).await;
    assert_eq!(lasting(&server).len(), 1);
}
