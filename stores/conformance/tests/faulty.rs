//! The faulty store does what its faults say.
#![allow(clippy::unwrap_used)] // Tests all through; Clippy knows only the functions marked so.

use std::time::Duration;

use larder_conformance::{Fault, Faulty, Model, Op};
use larder_store::{Body, ByteRange, Draft, ErrorKind, Key, Lookup, Store, StoreExt};

fn key() -> Key<'static> {
    Key::new("key").unwrap()
}

async fn filled() -> Faulty<Model> {
    let store = Faulty::new(Model::new().chunked(4));
    assert!(
        store
            .write("key", "0123456789", Draft::new())
            .await
            .unwrap()
            .is_done()
    );
    store
}

async fn open(store: &impl Store) -> Body {
    match store.get_stream(key(), ByteRange::FULL).await.unwrap() {
        Lookup::Hit(object) => object.body,
        Lookup::Miss(_) => panic!("a miss"),
    }
}

#[tokio::test]
async fn a_shortened_body_is_corrupt() {
    let store = filled().await;
    for len in [0, 3, 4, 9] {
        store.faults().on(Op::Get).inject(Fault::Shorten(len));
        let mut body = open(&store).await;
        assert_eq!(body.len(), Some(10));
        let mut read = 0;
        let error = loop {
            match body.chunk().await {
                Ok(chunk) => read += chunk.expect("no clean end").len() as u64,
                Err(error) => break error,
            }
        };
        assert!(error.is_corrupt());
        assert_eq!(read, len);
    }
    store.faults().on(Op::Body).nth(2).inject(Fault::Shorten(1));
    assert!(open(&store).await.bytes(10).await.unwrap_err().is_corrupt());
    assert_eq!(store.read("key", 10).await.unwrap().unwrap(), "0123456789");
}

#[tokio::test]
async fn faults_are_counted_from_the_moment_they_are_made() {
    let store = filled().await;
    assert_eq!(store.faults().calls(Op::Commit), 1);
    store
        .faults()
        .on(Op::Stat)
        .nth(2)
        .inject(Fault::Fail(ErrorKind::Timeout));
    store
        .faults()
        .on(Op::Get)
        .key("other")
        .always(Fault::Fail(ErrorKind::Other));
    assert!(store.stat(key()).await.is_ok());
    assert!(store.stat(key()).await.unwrap_err().is_timeout());
    assert!(store.stat(key()).await.is_ok());
    assert!(store.exists("key").await.unwrap());
    assert!(store.read("key", 10).await.unwrap().is_some());
    for _ in 0..2 {
        assert!(store.read("other", 10).await.is_err());
    }
    store.faults().clear();
    assert!(store.read("other", 10).await.unwrap().is_none());
    assert_eq!(store.faults().calls(Op::Stat), 4);
}

#[tokio::test]
async fn what_stalls_goes_on_when_it_is_released() {
    let store = filled().await;
    store.faults().on(Op::Delete).inject(Fault::Stall);
    store.faults().on(Op::Body).nth(3).inject(Fault::Stall);
    let deleting = {
        let store = store.clone();
        tokio::spawn(async move { store.delete(key(), None).await })
    };
    let mut body = open(&store).await;
    let reading = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(chunk) = body.chunk().await.unwrap() {
            all.extend_from_slice(&chunk);
        }
        all
    });
    store.faults().until_stalled(2).await;
    assert!(
        store.exists("key").await.unwrap(),
        "the delete has not begun"
    );
    store.faults().release();
    assert!(deleting.await.unwrap().unwrap().is_done());
    assert_eq!(reading.await.unwrap(), b"0123456789");
    assert!(!store.exists("key").await.unwrap());
    assert_eq!(store.faults().stalled(), 0);
}

#[tokio::test]
async fn an_answer_can_be_lost() {
    let store = filled().await;
    store
        .faults()
        .on(Op::Delete)
        .inject(Fault::FailAfter(ErrorKind::Timeout));
    assert!(store.delete(key(), None).await.unwrap_err().is_timeout());
    assert!(!store.exists("key").await.unwrap(), "it was done");

    store.faults().on(Op::Commit).inject(Fault::StallAfter);
    let writing = {
        let store = store.clone();
        tokio::spawn(async move { store.write("key", "new", Draft::new()).await })
    };
    store.faults().until_stalled(1).await;
    assert_eq!(store.read("key", 9).await.unwrap().unwrap(), "new");
    writing.abort();
    assert!(writing.await.unwrap_err().is_cancelled());
    assert_eq!(store.faults().stalled(), 0);
}

#[tokio::test]
async fn a_struck_write_spoils_its_writer() {
    let store = filled().await;
    for fault in [
        Fault::Fail(ErrorKind::Full),
        Fault::FailAfter(ErrorKind::Full),
    ] {
        let mut writer = store.set_with_writer(key(), Draft::new()).await.unwrap();
        store.faults().on(Op::Write).inject(fault);
        assert!(writer.write("a".into()).await.unwrap_err().is_full());
        assert!(writer.commit().await.is_err());
    }
    let mut writer = store.set_with_writer(key(), Draft::new()).await.unwrap();
    store.faults().on(Op::Write).inject(Fault::Stall);
    drop(writer.write("a".into()));
    assert!(writer.commit().await.is_err());
    assert_eq!(store.read("key", 10).await.unwrap().unwrap(), "0123456789");
    assert_eq!(store.usage().staged, 0);
}

#[tokio::test(start_paused = true)]
async fn delays_and_panics() {
    let store = filled().await;
    store
        .faults()
        .on(Op::Fence)
        .inject(Fault::Delay(Duration::from_secs(60)));
    let begun = tokio::time::Instant::now();
    store.fence(key()).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(60));

    store.faults().on(Op::Close).inject(Fault::Panic);
    let panicking = {
        let store = store.clone();
        tokio::spawn(async move { store.close().await })
    };
    assert!(panicking.await.unwrap_err().is_panic());
    assert!(store.close().await.is_ok());
}
