//! Lengths and headers that are not as they were declared.

use std::sync::Arc;

use bytes::Bytes;
use larder::{Cache, Draft, ErrorKind, Fetched};
use larder_conformance::{Faulty, Model};

use crate::support::{Origin, assert_clean, at_rest, faulty, impatient, text};

/// A cache whose `a` is `old`.
async fn with_old() -> (Cache, Faulty<Model>) {
    let store = faulty();
    let cache = impatient().tier(store.clone()).build().unwrap();
    cache.insert("a", "old", Draft::new()).await.unwrap();
    (cache, store)
}

/// What was there is there, and the attempt has left nothing.
async fn still_old(cache: &Cache, store: &Faulty<Model>) {
    at_rest(cache).await;
    assert_clean(store);
    assert_eq!(text(cache.get("a").await.unwrap()).await, "old");
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_given_too_little_does_not_commit() {
    let (cache, store) = with_old().await;
    let mut writer = cache
        .set_with_writer("a", Draft::new().len(5))
        .await
        .unwrap();
    writer.write("new").await.unwrap();
    let error = writer.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(
        error.to_string(),
        "3 bytes were written where 5 were declared"
    );
    still_old(&cache, &store).await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_is_given_too_much_says_so_and_cannot_be_committed() {
    let (cache, store) = with_old().await;
    let mut writer = cache
        .set_with_writer("a", Draft::new().len(5))
        .await
        .unwrap();
    writer.write("new").await.unwrap();
    let error = writer.write("newer").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(
        error.to_string(),
        "more bytes were written than were declared"
    );
    let error = writer.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let message = "the writer was spoilt by a write that failed or did not end";
    assert_eq!(error.to_string(), message);
    still_old(&cache, &store).await;
}

#[tokio::test(start_paused = true)]
async fn an_insert_is_held_to_the_length_that_its_draft_declares() {
    let (cache, store) = with_old().await;
    let error = cache
        .insert("a", "new", Draft::new().len(5))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(
        error.to_string(),
        "3 bytes were written where 5 were declared"
    );
    still_old(&cache, &store).await;
    cache
        .insert("a", "right", Draft::new().len(5))
        .await
        .unwrap();
    assert_eq!(text(cache.get("a").await.unwrap()).await, "right");
}

#[tokio::test(start_paused = true)]
async fn an_absent_object_cannot_have_a_body() {
    let (cache, store) = with_old().await;
    let absent = || Draft::new().with(|header| header.absent = true);
    let error = cache.insert("a", "new", absent()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "an absent object has no body");
    let mut writer = cache.set_with_writer("a", absent()).await.unwrap();
    writer.write("new").await.unwrap();
    assert!(writer.commit().await.unwrap_err().is_invalid());
    still_old(&cache, &store).await;
}

#[tokio::test(start_paused = true)]
async fn metadata_above_the_limit_fails_a_write_and_no_read() {
    let (cache, store) = with_old().await;
    let large = || (Arc::from("large"), Bytes::from(vec![b'x'; 70 << 10]));
    let draft = Draft::new().with(|header| header.attributes.push(large()));
    let error = cache.insert("a", "new", draft).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(
        error.to_string().ends_with("at most 65536 are allowed"),
        "{error}"
    );
    still_old(&cache, &store).await;
    let fetch = Origin::default().does(async move |_| {
        let (name, value) = large();
        Ok(Fetched::bytes("fetched").attribute(name, value))
    });
    let fetched = cache.get_or_fetch("b", fetch).await.unwrap();
    assert_eq!(
        fetched
            .metadata()
            .unwrap()
            .attribute("large")
            .unwrap()
            .len(),
        70 << 10
    );
    assert_eq!(text(fetched).await, "fetched");
    still_old(&cache, &store).await;
    assert_eq!(cache.tiers()[0].counters.refused, 1);
}
