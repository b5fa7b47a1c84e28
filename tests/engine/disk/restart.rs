//! A restart: the disk store is opened again, under an empty memory.

use larder::{Draft, Fetched};

use super::{KEPT, Place, is_from_disk};
use crate::{
    levers::{Gate, KEY, halves, held, reading, seen},
    source::{pattern, whole},
    support::{Origin, SECOND, settle, stale_is_served, strict, text},
};

#[tokio::test]
async fn s41_an_object_goes_on_ageing_over_a_restart() {
    for large_object in KEPT {
        let place = Place::new(large_object);
        let object = pattern(20_000);
        let stack = place.open_strict().await;
        let draft = Draft::new();
        stack
            .cache
            .insert(KEY, object.clone(), draft)
            .await
            .unwrap();
        place.clock.advance(20 * SECOND);
        stack.close().await;
        place.clock.advance(20 * SECOND);

        let stack = place.open_strict().await;
        let origin = Origin::default();
        let hit = stack.cache.get_or_fetch(KEY, origin.fails()).await.unwrap();
        assert!(is_from_disk(&hit));
        assert_eq!(hit.status().age(), 40 * SECOND);
        assert_eq!(whole(hit).await, object);
        settle(&stack.cache).await;

        place.clock.advance(19 * SECOND);
        let hit = stack.cache.get_or_fetch(KEY, origin.fails()).await.unwrap();
        assert!(hit.status().is_hit() && !is_from_disk(&hit), "from memory");
        assert_eq!(hit.status().age(), 59 * SECOND);
        assert_eq!(origin.fetches(), 0);

        place.clock.advance(SECOND);
        let response = stack.cache.get_or_fetch(KEY, origin.gives("new")).await;
        assert_eq!(text(response.unwrap()).await, "new");
        stack.close().await;
    }
}

#[tokio::test]
async fn an_object_that_was_stale_before_a_restart_is_served_once_and_fetched_behind() {
    for large_object in KEPT {
        let place = Place::new(large_object);
        let stack = place.open(stale_is_served()).await;
        stack.cache.insert(KEY, "old", Draft::new()).await.unwrap();
        place.clock.advance(61 * SECOND);
        stack.close().await;

        let stack = place.open(stale_is_served()).await;
        let origin = Origin::default();
        for (stale, body) in [(true, "old"), (false, "new"), (false, "new")] {
            let response = stack.cache.get_or_fetch(KEY, origin.gives("new")).await;
            let response = response.unwrap();
            assert_eq!(response.status().is_stale(), stale);
            assert_eq!(is_from_disk(&response), stale);
            assert_eq!(text(response).await, body);
            settle(&stack.cache).await;
        }
        assert_eq!(origin.fetches(), 1);
        assert_eq!(held(&stack.disk).await.as_deref(), Some("new"));
        stack.close().await;
    }
}

#[tokio::test]
async fn s13_what_was_deleted_or_replaced_is_not_back_after_a_restart() {
    for large_object in KEPT {
        for closed in [true, false] {
            let place = Place::new(large_object);
            let stack = place.open_strict().await;
            stack.cache.insert(KEY, "v1", Draft::new()).await.unwrap();
            stack
                .cache
                .insert("other", "v1", Draft::new())
                .await
                .unwrap();
            stack.end(closed).await;

            let stack = place.open_strict().await;
            assert_eq!(seen(&stack.cache).await.as_deref(), Some("v1"));
            stack.cache.delete(KEY).await.unwrap();
            stack
                .cache
                .insert("other", "v2", Draft::new())
                .await
                .unwrap();
            stack.end(closed).await;

            // Twice, since a start may write what it has found.
            for _ in 0..2 {
                let stack = place.open_strict().await;
                assert_eq!(seen(&stack.cache).await, None, "closed: {closed}");
                let other = stack.cache.get("other").await.unwrap();
                assert_eq!(text(other).await, "v2", "closed: {closed}");
                stack.end(closed).await;
            }
        }
    }
}

#[tokio::test]
async fn s13_a_fill_that_a_delete_has_overtaken_is_not_there_after_a_restart() {
    for large_object in KEPT {
        let place = Place::new(large_object);
        let stack = place.open_strict().await;
        let gate = Gate::new();
        let fetched = halves(&gate, "one ", "two");
        let fetch = Origin::default().does(async move |_| Ok(fetched));
        let reader = reading(&stack.cache, fetch);
        gate.reached().await;
        stack.cache.delete(KEY).await.unwrap();
        gate.open();
        assert_eq!(reader.await.unwrap(), "one two");
        settle(&stack.cache).await;
        assert_eq!(stack.disk_entries(), (0, 0));
        stack.close().await;
        let stack = place.open_strict().await;
        assert_eq!(seen(&stack.cache).await, None);
        assert_eq!(stack.disk_entries(), (0, 0));
        stack.close().await;
    }
}

#[tokio::test]
async fn s38_an_absence_is_remembered_over_a_restart_for_as_long_as_it_is_believed() {
    let place = Place::new(KEPT[0]);
    let policy = strict().negative_ttl(10 * SECOND);
    let stack = place.open(policy).await;
    let origin = Origin::default();
    let none = || origin.does(async |_| Ok(Fetched::absent()));
    assert!(
        stack
            .cache
            .get_or_fetch(KEY, none())
            .await
            .unwrap()
            .is_absent()
    );
    settle(&stack.cache).await;
    stack.close().await;
    let stack = place.open(policy).await;
    assert!(
        stack
            .cache
            .get_or_fetch(KEY, none())
            .await
            .unwrap()
            .is_absent()
    );
    assert_eq!(origin.fetches(), 1);
    place.clock.advance(11 * SECOND);
    let response = stack
        .cache
        .get_or_fetch(KEY, origin.gives("here now"))
        .await;
    assert_eq!(text(response.unwrap()).await, "here now");
    stack.close().await;
}
