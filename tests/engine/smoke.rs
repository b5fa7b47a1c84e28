//! The main job, once.

use larder::{Cache, Source};

use crate::support::{Origin, memory, settle, strict, text};

#[tokio::test]
async fn a_miss_is_fetched_once_and_then_hit() {
    let cache = Cache::builder()
        .tier(memory())
        .tier(memory())
        .policy(strict())
        .build()
        .unwrap();
    let origin = Origin::default();
    let fetch = origin.gives("one");
    let first = cache.get_or_fetch("a", fetch).await.unwrap();
    assert_eq!(*first.status().source(), Source::Origin);
    assert_eq!(text(first).await, "one");
    settle(&cache).await;
    let second = cache.get_or_fetch("a", origin.gives("two")).await.unwrap();
    assert!(second.status().is_hit());
    assert_eq!(text(second).await, "one");
    assert_eq!(origin.fetches(), 1);
    cache.delete("a").await.unwrap();
    assert!(cache.get("a").await.unwrap().is_absent());
    cache
        .insert("a", "three", larder::Draft::new())
        .await
        .unwrap();
    assert_eq!(text(cache.get("a").await.unwrap()).await, "three");
    cache.close().await.unwrap();
}
