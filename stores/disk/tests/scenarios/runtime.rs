//! A store whose runtime has ended before it: errors, and nobody hangs.

use std::{sync::mpsc, thread, time::Duration};

use larder_disk::Disk;
use larder_store::{Store, StoreExt};
use tokio::runtime::{Builder, Runtime};

use crate::{
    KINDS, MIB, Scratch,
    common::{check_body, delete, draft, key, open_body, put, set, version_of},
    set_each_kind,
};

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// Runs what must end in another thread, which is left behind if it does not.
fn ends<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || sender.send(run()));
    match receiver.recv_timeout(Duration::from_secs(20)) {
        Ok(output) => output,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it has sent nothing"))
        }
    }
}

#[test]
fn a_body_whose_runtime_has_ended_gives_its_bytes_or_an_error() {
    let folder = Scratch::new();
    let root = folder.store();
    let first = runtime();
    let (store, bodies) = first.block_on(async {
        let store = Disk::open(&root, 64 * MIB).await.unwrap();
        set_each_kind(&store, 1).await;
        set(&store, "largest", 1, 8 << 20).await;
        let mut bodies = Vec::new();
        for name in ["tabled", "large", "largest", "largest"] {
            bodies.push((name, open_body(&store, name).await));
        }
        let begun = bodies.last_mut().map(|(_, object)| object).unwrap();
        begun.body.chunk().await.unwrap();
        (store, bodies)
    });
    // So that reading must wait for the disk, for which it needs the runtime.
    #[cfg(target_os = "linux")]
    crate::bodies::forget_pages(&root);
    first.shutdown_timeout(Duration::from_secs(1));
    ends("reading", move || {
        runtime().block_on(async {
            for (name, mut object) in bodies {
                let (version, len) = (version_of(&object.metadata), object.metadata.len());
                let mut place = len - object.body.len().unwrap();
                while let Ok(Some(chunk)) = object.body.chunk().await {
                    let range = place..place + chunk.len() as u64;
                    check_body(name, version, &range, &chunk);
                    place = range.end;
                }
            }
            every_operation_ends(&store).await;
        });
        drop(store);
    });
}

/// In whatever way.
async fn every_operation_ends(store: &Disk) {
    for (name, len) in KINDS {
        drop(store.read(name, 16 * MIB).await);
        drop(store.stat(key(name)).await);
        drop(put(store, name, draft(2), len).await);
        drop(store.as_touch().unwrap().touch(key(name), draft(3)).await);
        drop(store.delete(key(name), None).await);
        drop(put(store, "new", draft(2), len).await);
        let mut keys = store.as_list().unwrap().list("");
        while let Some(Ok(_)) = futures_util::StreamExt::next(&mut keys).await {}
    }
    drop(store.close().await);
}

/// The store's own threads need no runtime: what was acknowledged is written all the same.
#[test]
fn what_was_acknowledged_outlives_the_runtime() {
    let folder = Scratch::new();
    let root = folder.store();
    let first = runtime();
    let store = first.block_on(async {
        let store = Disk::open(&root, 64 * MIB).await.unwrap();
        set_each_kind(&store, 1).await;
        set(&store, "deleted", 1, 10).await;
        delete(&store, "deleted").await;
        store
    });
    first.shutdown_timeout(Duration::from_secs(1));
    drop(store);
    ends("opening again", move || {
        runtime().block_on(async {
            let store = crate::common::open_again(|| Disk::builder(&root, 64 * MIB)).await;
            for (name, _) in KINDS {
                crate::common::finds(&store, name, 1).await;
            }
            crate::common::finds(&store, "deleted", None).await;
        });
    });
}
