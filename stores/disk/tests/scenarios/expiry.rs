//! What has expired is absent, by the clock that the store was given.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use larder_disk::Disk;
use larder_store::{Store, Timestamp};

use crate::{
    KINDS, MIB,
    common::{Scratch, delete, draft, finds, key, put, set},
};

#[tokio::test]
async fn what_has_expired_is_absent_also_after_a_restart() {
    let folder = Scratch::new();
    let now = Arc::new(AtomicU64::new(1_000));
    let builder = || {
        let clock = Arc::clone(&now);
        let clock = move || Timestamp::from_millis(clock.load(Ordering::Relaxed));
        Disk::builder(folder.store(), 64 * MIB).clock(clock)
    };
    let mut store = builder().open().await.unwrap();
    let at =
        |millis| draft(1).with(|header| header.expires_at = Some(Timestamp::from_millis(millis)));
    for (round, reopen) in [(1_u64, false), (2, true)] {
        let start = round * 10_000;
        now.store(start, Ordering::Relaxed);
        for (name, len) in KINDS {
            assert!(
                put(&store, name, at(start + 500), len)
                    .await
                    .unwrap()
                    .is_done()
            );
            let later = format!("{name} later");
            assert!(
                put(&store, &later, at(start + 5_000), len)
                    .await
                    .unwrap()
                    .is_done()
            );
            set(&store, &format!("{name} never"), 1, len).await;
        }
        for millis in [499, 500, 501, 4_999] {
            now.store(start + millis, Ordering::Relaxed);
            if reopen && millis != 499 {
                store.close().await.unwrap();
                store = builder().open().await.unwrap();
            }
            for (name, _) in KINDS {
                let there = (millis < 500).then_some(1);
                finds(&store, name, there).await;
                let stat = store.stat(key(name)).await.unwrap();
                assert_eq!(stat.is_some(), millis < 500, "{name} after {millis}");
                finds(&store, &format!("{name} later"), 1).await;
                finds(&store, &format!("{name} never"), 1).await;
            }
        }
        // A touch gives what has expired no new life.
        now.store(start + 5_000, Ordering::Relaxed);
        for (name, _) in KINDS {
            let later = format!("{name} later");
            let touch = store.as_touch().unwrap().touch(key(&later), draft(1)).await;
            assert!(!touch.unwrap().is_done(), "{later}");
            finds(&store, &later, None).await;
        }
    }
    for (name, _) in KINDS {
        for name in [
            name.to_owned(),
            format!("{name} later"),
            format!("{name} never"),
        ] {
            delete(&store, &name).await;
        }
    }
    assert_eq!((store.usage().entries, store.usage().live), (0, 0));
}

/// A touch moves the time, and the one that was touched last counts after a restart.
#[tokio::test]
async fn a_touch_moves_the_time_of_expiry() {
    let folder = Scratch::new();
    let now = Arc::new(AtomicU64::new(0));
    let builder = || {
        let clock = Arc::clone(&now);
        let clock = move || Timestamp::from_millis(clock.load(Ordering::Relaxed));
        Disk::builder(folder.store(), 64 * MIB).clock(clock)
    };
    let store = builder().open().await.unwrap();
    for (name, len) in KINDS {
        set(&store, name, 1, len).await;
        for millis in [900, 100, 500] {
            let draft =
                draft(1).with(|header| header.expires_at = Some(Timestamp::from_millis(millis)));
            let touched = store.as_touch().unwrap().touch(key(name), draft);
            assert!(touched.await.unwrap().is_done());
        }
    }
    store.close().await.unwrap();
    let store = builder().open().await.unwrap();
    for (name, _) in KINDS {
        now.store(499, Ordering::Relaxed);
        finds(&store, name, 1).await;
        now.store(500, Ordering::Relaxed);
        finds(&store, name, None).await;
    }
}
