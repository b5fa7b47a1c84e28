//! The faulty store does what its faults say.
#![allow(clippy::unwrap_used)] // Tests all through; Clippy knows only the functions marked so.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use larder_conformance::{Fault, Faulty, Model, Op};
use larder_store::{
    Body, ByteRange, Deliveries, Delivery, Draft, ErrorKind, Key, Leased, Lookup, Message, Notice,
    Store, StoreExt, Terms,
};

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

/// The numbers of what a subscriber hears, 0 for a loss.
async fn hear(deliveries: &mut Deliveries, count: usize) -> Vec<u64> {
    let heard = deliveries.take(count).map(|delivery| match delivery {
        Delivery::Message(message) => message.sequence,
        Delivery::Lost => 0,
    });
    heard.collect().await
}

async fn publish(store: &impl Store, sequences: std::ops::RangeInclusive<u64>) {
    for sequence in sequences {
        let message = Message {
            publisher: 1,
            epoch: 1,
            sequence,
            notice: Notice::All,
        };
        let bus = store.as_bus().unwrap();
        bus.publish(&message).await.unwrap();
    }
}

#[tokio::test]
async fn s67_messages_are_lost_repeated_and_mixed_up() {
    let store = Faulty::new(Model::new());
    let faults = store.faults().clone();
    let mut deliveries = store.as_bus().unwrap().subscribe().await.unwrap();
    faults.on(Op::Deliver).nth(2).times(3).inject(Fault::Skip);
    publish(&store, 1..=5).await;
    assert_eq!(hear(&mut deliveries, 2).await, [1, 5]);

    faults.on(Op::Deliver).inject(Fault::Repeat);
    faults.on(Op::Deliver).nth(3).inject(Fault::Lose);
    publish(&store, 6..=9).await;
    assert_eq!(hear(&mut deliveries, 5).await, [6, 6, 7, 0, 9]);

    faults.on(Op::Deliver).inject(Fault::Behind(2));
    faults.on(Op::Deliver).nth(2).inject(Fault::Behind(1));
    publish(&store, 10..=14).await;
    assert_eq!(hear(&mut deliveries, 5).await, [12, 11, 13, 10, 14]);

    // Late is better than never.
    faults.on(Op::Deliver).inject(Fault::Behind(9));
    publish(&store, 15..=16).await;
    store.close().await.unwrap();
    assert_eq!(hear(&mut deliveries, 9).await, [16, 15]);
    assert_eq!(faults.calls(Op::Deliver), 16);
}

#[tokio::test]
async fn s67_one_subscriber_is_cut_off_and_the_other_is_not() {
    let model = Model::new();
    let stores = [Faulty::new(model.clone()), Faulty::new(model)];
    let [mut near, mut far] = [0, 1].map(|it: usize| {
        let reply = stores[it].as_bus().unwrap().subscribe();
        reply.now_or_never().unwrap().unwrap()
    });
    stores[1].faults().on(Op::Deliver).inject(Fault::Stall);
    publish(&stores[0], 1..=2).await;
    assert_eq!(hear(&mut near, 2).await, [1, 2]);
    let hearing = tokio::spawn(async move { hear(&mut far, 2).await });
    stores[1].faults().until_stalled(1).await;
    stores[1].faults().release();
    assert_eq!(hearing.await.unwrap(), [1, 2]);

    let down = Fault::Fail(ErrorKind::Unavailable);
    stores[0].faults().on(Op::Publish).inject(down);
    stores[0].faults().on(Op::Subscribe).inject(down);
    let bus = stores[0].as_bus().unwrap();
    assert!(bus.subscribe().await.err().unwrap().is_unavailable());
    let beat = Message {
        publisher: 1,
        epoch: 1,
        sequence: 3,
        notice: Notice::Beat,
    };
    assert!(bus.publish(&beat).await.unwrap_err().is_unavailable());
    assert!(bus.publish(&beat).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn leases_fail_hang_and_are_taken_unheard() {
    let store = Faulty::new(Model::new());
    let faults = store.faults().clone();
    let lease = store.as_lease().unwrap();
    let fence = store.fence(key()).await.unwrap();
    let terms = Terms {
        who: "a".into(),
        why: "fill".into(),
        ttl: Duration::from_secs(5),
    };
    let timeout = Fault::Fail(ErrorKind::Timeout);
    faults.on(Op::Acquire).inject(timeout);
    let failed = lease.acquire(key(), &fence, &terms).await;
    assert!(failed.unwrap_err().is_timeout());
    faults.on(Op::Acquire).inject(Fault::Stall);
    let hung = lease.acquire(key(), &fence, &terms).now_or_never();
    assert!(hung.is_none(), "and it was not done");
    let lost = Fault::FailAfter(ErrorKind::Timeout);
    faults.on(Op::Acquire).key("key").inject(lost);
    let lost = lease.acquire(key(), &fence, &terms).await;
    assert!(lost.unwrap_err().is_timeout());
    let taken = lease.acquire(key(), &fence, &terms).await.unwrap();
    assert!(matches!(taken, Leased::Taken(holder) if holder.left == terms.ttl));

    // By tokio's clock.
    tokio::time::advance(terms.ttl).await;
    let granted = lease.acquire(key(), &fence, &terms).await.unwrap();
    let Leased::Granted(grant) = granted else {
        panic!("it expired");
    };
    faults.on(Op::Renew).inject(timeout);
    faults.on(Op::Release).inject(timeout);
    assert!(lease.renew(key(), &grant, terms.ttl).await.is_err());
    assert!(lease.release(key(), &grant).await.is_err());
    assert!(lease.renew(key(), &grant, terms.ttl).await.unwrap());
    lease.release(key(), &grant).await.unwrap();
    assert!(!lease.renew(key(), &grant, terms.ttl).await.unwrap());
    assert_eq!(faults.calls(Op::Acquire), 5);
}

#[test]
#[should_panic(expected = "no Publish can meet with Skip")]
fn a_fault_that_makes_no_sense_is_refused() {
    Faulty::new(Model::new())
        .faults()
        .on(Op::Publish)
        .inject(Fault::Skip);
}
