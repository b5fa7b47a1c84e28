//! Capabilities, where a store claims them.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use larder_store::{Draft, METADATA_LEN_MAX, Store, Touch};

use crate::{
    Setup, Subject,
    probe::{
        counts, delete, draft, expect_err, fence, finds, hit, key, pattern, read_whole, set,
        set_fenced, stat,
    },
};

/// `Touch` replaces the header, keeps the body, and counts as a commit. Passes where the store does
/// not claim it.
pub async fn capability_touch(subject: &impl Subject) {
    let store = subject.make(Setup::default()).await;
    let Some(touch) = store.as_touch() else {
        return;
    };
    let old = set(&store, "a", 1, 5000).await;
    let usage = store.usage();
    let unread = hit(&store, "a").await;
    let touched = touch
        .touch(key("a"), tagged("new"))
        .await
        .expect("a touch succeeds");
    assert!(touched.is_done());
    let new = stat(&store, "a").await.expect("it is there");
    assert_eq!(
        new.header(),
        tagged("new").header(),
        "the header is replaced"
    );
    assert_eq!(
        (new.len(), new.checksum()),
        (old.len(), old.checksum()),
        "the body is kept"
    );
    assert_ne!(new.version(), old.version(), "it is another commit");
    finds(&store, "a", 1).await;
    assert_eq!(read_whole(unread).await, 1, "open while it was touched");
    counts(&store, "the new header counts", |after| {
        after.live > usage.live
    });
    assert_eq!(store.usage().entries, usage.entries);
    refused_touches(&store, touch, usage.live).await;
    fenced_touches(&store, touch).await;
    touches_of_nothing(&store, touch).await;
}

/// A header that is longer by enough to show in a store that counts in blocks.
fn tagged(tag: &str) -> Draft {
    draft(1).with(|header| {
        header.tags = vec![tag.into()];
        let filler = vec![7; 100].into();
        header.attributes.push(("filler".into(), filler));
    })
}

async fn refused_touches<S: Store>(store: &S, touch: &dyn Touch, before: u64) {
    // A length that is declared is the object's.
    assert!(
        touch
            .touch(key("a"), draft(1).len(5000))
            .await
            .expect("it is right")
            .is_done()
    );
    let live = store.usage().live;
    assert_eq!(live, before, "the former header does not count");
    expect_err(
        touch.touch(key("a"), tagged("x").len(4999)).await,
        "another length",
    );
    let heavy = Draft::new().with(|header| {
        header
            .attributes
            .push(("a".into(), Bytes::from(vec![1; METADATA_LEN_MAX])));
    });
    expect_err(
        touch.touch(key("a"), heavy).await,
        "more metadata than is allowed",
    );
    assert!(
        stat(store, "a").await.expect("it is there").tags.is_empty(),
        "nothing was changed"
    );
}

/// Fences are obeyed, and ended.
async fn fenced_touches<S: Store>(store: &S, touch: &dyn Touch) {
    let (first, second) = (fence(store, "a").await, fence(store, "a").await);
    let touched = touch
        .touch(key("a"), tagged("fenced").fence(first.clone()))
        .await;
    assert!(
        touched.expect("a touch succeeds").is_done(),
        "nothing had happened"
    );
    let touched = touch.touch(key("a"), tagged("late").fence(first)).await;
    assert!(
        !touched.expect("superseded is not an error").is_done(),
        "it was touched since"
    );
    assert_eq!(
        *stat(store, "a").await.expect("it is there").tags[0],
        *"fenced"
    );
    assert!(
        !set_fenced(store, "a", 2, &second).await,
        "a touch counts as a commit"
    );
    finds(store, "a", 1).await;
}

/// Where there is nothing, nothing comes to be.
async fn touches_of_nothing<S: Store>(store: &S, touch: &dyn Touch) {
    delete(store, "a").await;
    let absent = fence(store, "a").await;
    for draft in [draft(3), draft(3).fence(absent.clone())] {
        let touched = touch.touch(key("a"), draft).await;
        assert!(
            !touched.expect("superseded is not an error").is_done(),
            "there is no object"
        );
        finds(store, "a", None).await;
    }
    assert!(
        set_fenced(store, "a", 4, &absent).await,
        "a touch of nothing is nothing"
    );
}

/// `List` gives the keys that are there, each once. Passes where the store does not claim it.
pub async fn capability_list(subject: &impl Subject) {
    let store = Arc::new(subject.make(Setup::default()).await);
    if store.as_list().is_none() {
        return;
    }
    assert!(
        list(&*store, "").await.is_empty(),
        "a new store has no keys"
    );
    let names: BTreeSet<String> = (0..200)
        .map(|id| {
            format!(
                "{}/{}/{id}",
                ["a", "a%", "ab", "b"][id % 4],
                ["x_", "x"][id % 2]
            )
        })
        .collect();
    for name in &names {
        set(&*store, name, 1, 10).await;
        set(&*store, name, 2, 10).await;
    }
    let all = names
        .iter()
        .map(String::as_str)
        .chain(["", "a", "a/", "a%", "a*", "a/x", "c", "/"]);
    for prefix in all.collect::<Vec<_>>() {
        let expected: BTreeSet<_> = names
            .iter()
            .filter(|name| name.starts_with(prefix))
            .cloned()
            .collect();
        assert_eq!(
            list(&*store, prefix).await,
            expected,
            "the keys that begin with {prefix:?}"
        );
    }
    // What only a writer knows of is not there.
    let mut writer = crate::probe::open(&*store, "a/staged", draft(1)).await;
    writer
        .write(pattern(1, 10))
        .await
        .expect("a chunk is taken");
    assert_eq!(list(&*store, "").await, names);
    drop(writer);

    beside_changes(&store, &names).await;
    let listed = list(&*store, PASSING).await;
    for name in &listed {
        finds(&*store, name, 1).await;
        delete(&*store, name).await;
    }
    for name in &names {
        delete(&*store, name).await;
    }
    assert!(
        list(&*store, "").await.is_empty(),
        "what is deleted is not listed"
    );
}

/// What is there all the time is given, whatever others do meanwhile.
async fn beside_changes<S: Store>(store: &Arc<S>, names: &BTreeSet<String>) {
    let changing = {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for id in 0..300 {
                set(&*store, &format!("{PASSING}{}", id % 40), 1, 10).await;
                delete(&*store, &format!("{PASSING}{}", (id + 20) % 40)).await;
            }
        })
    };
    while !changing.is_finished() {
        let mut listed = list(&**store, "").await;
        listed.retain(|name| !name.starts_with(PASSING));
        assert_eq!(&listed, names, "the keys that were there all the time");
        tokio::task::yield_now().await;
    }
    changing.await.expect("the others succeed");
}

/// Keys that come and go while a list is read.
const PASSING: &str = "a/passing/";

/// More keys than the clauses put into a store.
const LISTED_MAX: usize = 100_000;

async fn list<S: Store>(store: &S, prefix: &str) -> BTreeSet<String> {
    let list = store.as_list().expect("it was there when it was asked for");
    let listed = list.list(prefix).map(|key| key.map(|key| key.to_string()));
    // One that has no end and never waits would keep its thread from every time-out.
    let listed = listed.take(LISTED_MAX + 1).try_collect::<Vec<_>>();
    let listed = listed.await.expect("a list succeeds");
    assert!(listed.len() <= LISTED_MAX, "a list comes to an end");
    let mut distinct = BTreeSet::new();
    for name in listed {
        // A key that was deleted and set again meanwhile may be given twice.
        let changes = name.starts_with(PASSING);
        assert!(distinct.insert(name) || changes, "each key is given once");
    }
    distinct
}
