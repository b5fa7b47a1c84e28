//! Clause 6: what others have open is nobody's business.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use larder_store::Store;

use crate::{
    Setup, Subject,
    probe::{
        PROMPT, bounded, delete, draft, fence, finds, found, hit, key, open, pattern, read_whole,
        set, set_fenced, within, write,
    },
};

/// So many that keys of them share every lock that is not a key's own.
const KEYS: u64 = 96;
const LEN: usize = 6000;

/// Clause 6: with a writer open and bodies unread on every key, every operation on these keys and
/// on others ends within half a second. (S01, S02, S10)
pub async fn clause_06_nobody_waits_on_a_stranger(subject: &impl Subject) {
    let store = Arc::new(subject.make(Setup::default()).await);
    let mut open_ones = Vec::new();
    for id in 0..KEYS {
        let name = format!("busy/{id}");
        set(&*store, &name, id, LEN).await;
        let (unread, begun) = bounded(
            PROMPT,
            "reading",
            both(hit(&*store, &name), hit(&*store, &name)),
        )
        .await;
        let mut begun = begun.body;
        begun.chunk().await.expect("a chunk can be read");
        let writers = both(
            open(&*store, &name, draft(id)),
            open(&*store, &name, draft(id + 1000)),
        );
        let (untouched, mut writer) = bounded(PROMPT, "opening writers", writers).await;
        write(&mut *writer, &pattern(id + 1000, LEN)).await;
        let staged = writer.staged();
        let fence = fence(&*store, &name).await;
        open_ones.push((unread, begun, untouched, writer, staged, fence));
    }
    let listing = store.as_list().map(|list| list.list("busy/"));
    for id in 0..KEYS {
        for name in [format!("busy/{id}"), format!("quiet/{id}")] {
            every_operation(&store, &name).await;
        }
    }
    drop(listing);
    for (id, (unread, begun, _, writer, ..)) in open_ones.into_iter().enumerate() {
        assert_eq!(read_whole(unread).await, id as u64, "a body that waited");
        begun
            .bytes(LEN as u64)
            .await
            .expect("a body that was begun can be read");
        assert!(
            writer
                .commit()
                .await
                .expect("a forgotten writer may commit")
                .is_done()
        );
        finds(&*store, &format!("busy/{id}"), id as u64 + 1000).await;
    }
    crowd_in_a_small_room(subject).await;
}

async fn both<T>(first: impl Future<Output = T>, second: impl Future<Output = T>) -> (T, T) {
    (first.await, second.await)
}

async fn every_operation<S: Store>(store: &Arc<S>, name: &str) {
    macro_rules! prompt {
        ($what:literal, |$store:ident, $name:ident| $operation:expr) => {{
            let ($store, $name) = (Arc::clone(store), name.to_owned());
            let what = format!("{} of {name:?}", $what);
            within(PROMPT, &what, async move { $operation }).await
        }};
    }
    prompt!("reading", |store, name| found(&*store, &name).await);
    prompt!("a set", |store, name| drop(
        set(&*store, &name, 7, 100).await
    ));
    prompt!("a fenced set", |store, name| {
        let fence = fence(&*store, &name).await;
        assert!(set_fenced(&*store, &name, 8, &fence).await);
    });
    prompt!("an abort", |store, name| {
        let mut writer = open(&*store, &name, draft(9)).await;
        write(&mut *writer, &pattern(9, 100)).await;
        writer.abort().await.expect("an abort succeeds");
    });
    prompt!("a touch", |store, name| {
        if let Some(touch) = store.as_touch() {
            let touched = touch.touch(key(&name), draft(8)).await;
            assert!(touched.expect("a touch succeeds").is_done());
        }
    });
    prompt!("a list", |store, name| {
        if let Some(list) = store.as_list() {
            assert_eq!(list.list(&name).take(1).count().await, 1);
        }
    });
    prompt!("a delete", |store, name| delete(&*store, &name).await);
    prompt!("reading what is gone", |store, name| finds(
        &*store, &name, None
    )
    .await);
}

/// S08: sixteen writers, sixty-four keys, room for three objects, so that every commit evicts.
async fn crowd_in_a_small_room(subject: &impl Subject) {
    let store = Arc::new(subject.make(Setup::new(200 << 10, 64 << 10)).await);
    let body = pattern(0, 60 << 10);
    let crowd = (0..16_u64).map(|writer| {
        let (store, body) = (Arc::clone(&store), body.clone());
        tokio::spawn(async move {
            for turn in 0..24 {
                let name = format!("{}", (writer * 7 + turn * 13) % 64);
                let mut writer = open(&*store, &name, draft(0)).await;
                write(&mut *writer, &body).await;
                let committed = writer.commit().await;
                assert!(committed.expect("there is always room for one").is_done());
                if turn % 5 == 0 {
                    delete(&*store, &name).await;
                }
            }
        })
    });
    let crowd = futures_util::future::join_all(crowd.collect::<Vec<_>>());
    for joined in within(Duration::from_secs(30), "a crowd in a small room", crowd).await {
        joined.expect("every writer of the crowd succeeds");
    }
}
