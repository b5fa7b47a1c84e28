//! `If-None-Match`, wherever the answer comes from.

use larder::{Cache, EntityTag, Fetched, IfNoneMatch, Promote, StoreExt, Tier};

use crate::{
    source::{pattern, streamed},
    support::{Origin, memory, settle, strict},
};

/// Conditions, and whether an object with the tag `"a,b"` satisfies them.
const CONDITIONS: [(&str, bool); 9] = [
    (r#""a,b""#, true),
    (r#"W/"a,b""#, true),
    (r#""x", "a,b" , W/"y""#, true),
    (r#""x",,"a,b""#, true),
    ("*", true),
    (r#""a", "b""#, false),
    (r#""A,B""#, false),
    (r#""*""#, false),
    (r#""x", W/"a""#, false),
];

#[tokio::test(start_paused = true)]
async fn s44_a_condition_holds_for_a_fetch_just_made_and_for_hits_in_every_tier() {
    let tag = EntityTag::strong("a,b").unwrap();
    for (text, holds) in CONDITIONS {
        let condition: IfNoneMatch = text.parse().unwrap();
        let hot = memory();
        let below = Tier::new(memory()).promote(Promote::Never);
        let builder = Cache::builder().tier(hot.clone()).tier(below);
        let cache = builder.policy(strict()).build().unwrap();
        let origin = Origin::default();
        let asks = || {
            let tagged = Fetched::bytes("x").etag(tag.clone());
            let fetch = origin.does(async move |_| Ok(tagged));
            let request = cache.get_or_fetch("a", fetch);
            request.if_none_match(condition.clone())
        };
        let fetched = asks().await.unwrap();
        assert_eq!(origin.fetches(), 1);
        settle(&cache).await;
        let hit = asks().await.unwrap();
        assert!(hit.status().is_hit());
        hot.remove("a").await.unwrap();
        let lower = asks().await.unwrap();
        assert!(lower.status().is_hit());
        for response in [fetched, hit, lower] {
            assert_eq!(response.is_not_modified(), holds, "{text}");
            assert_eq!(response.metadata().unwrap().etag, Some(tag.clone()));
            assert_eq!(response.into_body().is_some(), !holds, "{text}");
        }
        assert_eq!(origin.fetches(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn s44_a_caller_that_has_the_object_needs_none_of_its_bytes_but_the_tiers_get_them() {
    let store = memory();
    let cache = Cache::builder().tier(store.clone()).build().unwrap();
    let tag = EntityTag::weak("v1").unwrap();
    let (object, tagged) = (pattern(10_000), tag.clone());
    let body = object.clone();
    let fetch = async move |_| Ok::<_, larder::Error>(streamed(&body, 1_000).etag(tagged));
    let request = cache.get_or_fetch("a", fetch).if_none_match(tag);
    assert!(request.await.unwrap().is_not_modified());
    settle(&cache).await;
    assert_eq!(store.read("a", 1 << 20).await.unwrap().unwrap(), object);
}

#[tokio::test(start_paused = true)]
async fn s44_an_object_without_a_tag_satisfies_the_star_and_no_list() {
    let cache = Cache::builder().tier(memory()).build().unwrap();
    let fetch = Origin::default().gives("x");
    cache.get_or_fetch("a", fetch).await.unwrap();
    let list = cache.get("a").if_none_match(EntityTag::strong("").unwrap());
    assert!(!list.await.unwrap().is_not_modified());
    let star = cache.get("a").if_none_match(IfNoneMatch::ANY);
    assert!(star.await.unwrap().is_not_modified());
}
