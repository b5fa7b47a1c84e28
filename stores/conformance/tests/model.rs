//! What the model has beside the contract.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use larder_conformance::{Model, Setup};
use larder_store::{ByteRange, Draft, Key, Lookup, Store, StoreExt, Timestamp};

#[tokio::test]
async fn s18_no_fence_is_left_when_nothing_is_in_flight() {
    let model = Model::new();
    for id in 0..100 {
        let name = format!("{id}");
        let key = Key::new(&name).unwrap();
        let missed = model.get_stream(key, ByteRange::FULL).await.unwrap();
        let Lookup::Miss(fence) = missed else {
            panic!("a hit");
        };
        assert_eq!(model.fences(), 1);
        let draft = Draft::new().fence(fence);
        if id % 2 == 0 {
            assert!(model.write(&name, "x", draft).await.unwrap().is_done());
        } else {
            drop(model.set_with_writer(key, draft).await.unwrap());
        }
        assert_eq!(model.fences(), 0);
    }
}

#[tokio::test]
async fn objects_expire_by_the_clock_that_was_given() {
    let now = Arc::new(AtomicU64::new(1000));
    let clock = Arc::clone(&now);
    let model = Model::new().clock(move || Timestamp::from_millis(clock.load(Ordering::SeqCst)));
    let draft = Draft::new().with(|header| header.expires_at = Some(Timestamp::from_millis(2000)));
    assert!(model.write("a", "x", draft).await.unwrap().is_done());
    now.store(1999, Ordering::SeqCst);
    assert!(model.exists("a").await.unwrap());
    now.store(2000, Ordering::SeqCst);
    assert_eq!(model.usage().entries, 1, "it counts until it is gone");
    assert!(!model.exists("a").await.unwrap());
    assert_eq!(model.usage().entries, 0);
}

#[tokio::test]
async fn the_oldest_goes_first_and_chunks_are_as_long_as_was_said() {
    let model = Model::with(Setup::new(1000, 500)).chunked(3);
    for name in ["a", "b", "c"] {
        assert!(
            model
                .write(name, vec![1; 300], Draft::new())
                .await
                .unwrap()
                .is_done()
        );
    }
    assert!(!model.exists("a").await.unwrap());
    assert!(model.exists("b").await.unwrap() && model.exists("c").await.unwrap());
    let found = model
        .get_stream(Key::new("c").unwrap(), ByteRange::suffix(7).unwrap())
        .await;
    let Lookup::Hit(mut object) = found.unwrap() else {
        panic!("a miss");
    };
    let mut lens = Vec::new();
    while let Some(chunk) = object.body.chunk().await.unwrap() {
        lens.push(chunk.len());
    }
    assert_eq!(lens, [3, 3, 1]);
}
