//! A tier that fails half-way through a body costs a count, not the reader's bytes.

use bytes::Bytes;
use larder::{Cache, Draft, EntityTag, ErrorKind, Fetched, Memory, StoreExt};
use larder_conformance::{Fault, Faulty, Model, Op};

use crate::support::{Origin, memory, settle, strict};

const LEN: usize = 100_000;

fn bytes() -> Bytes {
    (0..LEN)
        .map(|at| u8::try_from(at % 251).expect("small"))
        .collect()
}

/// A cold tier that has the object under the tag "v1", and breaks off in its fifth chunk.
async fn broken() -> (Cache, Memory, Faulty<Model>) {
    let (hot, cold) = (memory(), Faulty::new(Model::new().chunked(1_000)));
    let cache = Cache::builder()
        .tier(hot.clone())
        .tier(cold.clone())
        .policy(strict())
        .build();
    let cache = cache.expect("a cache");
    let draft = Draft::new().with(|header| header.etag = EntityTag::strong("v1").ok());
    cache.insert("a", bytes(), draft).await.expect("written");
    hot.remove("a").await.expect("removed");
    let fault = Fault::Fail(ErrorKind::Corrupt);
    cold.faults().on(Op::Body).nth(5).inject(fault);
    (cache, hot, cold)
}

#[tokio::test]
async fn s23_the_origin_goes_on_where_a_tier_broke_off() {
    let (cache, hot, _cold) = broken().await;
    let origin = Origin::default();
    let fetch = origin.does(async |context| {
        assert!(
            context.etag().is_none(),
            "\"not modified\" would bring no bytes"
        );
        Ok(Fetched::bytes(bytes()).etag(EntityTag::strong("v1")?))
    });
    let response = cache.get_or_fetch("a", fetch).await.expect("an answer");
    assert!(response.status().is_hit());
    let body = response.into_body().expect("a body");
    assert_eq!(body.bytes(1 << 20).await.expect("every byte"), bytes());
    assert_eq!(origin.fetches(), 1);
    settle(&cache).await;
    let promoted = hot.read("a", 1 << 20).await.expect("a look-up");
    assert_eq!(promoted.expect("the tier above has it whole"), bytes());
}

#[tokio::test]
async fn s21_another_object_is_no_continuation() {
    for tag in [EntityTag::strong("v2"), EntityTag::weak("v1")] {
        let (cache, hot, _cold) = broken().await;
        let origin = Origin::default();
        let fetch = origin.does(async move |_| Ok(Fetched::bytes(bytes()).etag(tag?)));
        let response = cache.get_or_fetch("a", fetch).await.expect("an answer");
        let body = response.into_body().expect("a body");
        assert!(
            body.bytes(1 << 20)
                .await
                .expect_err("it breaks off")
                .is_corrupt()
        );
        settle(&cache).await;
        assert!(
            hot.read("a", 1 << 20).await.expect("a look-up").is_none(),
            "nothing published"
        );
    }
}
