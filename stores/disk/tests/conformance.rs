//! The contract, clause by clause, under the settings that change how objects are kept, and through
//! the pointers that users hold.

#[allow(clippy::unwrap_used, dead_code)] // Of a test, and only for a folder.
#[path = "common/folders.rs"]
mod folders;

use std::{sync::Arc, thread, time::Duration};

use folders::Scratch;
use larder_conformance::Setup;
use larder_disk::{Builder, Disk, Durability};
use larder_store::{
    ByteRange, Commit, Draft, Fence, Fencing, Identity, Key, List, Lookup, Metadata, Reply, Store,
    Touch, Usage, Writer,
};

/// A store whose folder goes with it.
#[derive(Debug)]
struct Kept {
    store: Disk,
    setup: Setup,
    folder: Option<Scratch>,
    settings: fn(Builder) -> Builder,
}

/// The least that the store takes.
const CAPACITY_MIN: u64 = 1 << 20;

impl Kept {
    async fn new(setup: Setup, settings: fn(Builder) -> Builder) -> Self {
        Self::open(Scratch::in_memory(), setup, settings).await
    }

    async fn open(folder: Scratch, setup: Setup, settings: fn(Builder) -> Builder) -> Self {
        let capacity = setup.capacity.max(CAPACITY_MIN);
        let builder = Disk::builder(folder.path(), capacity).object_max(setup.object_max);
        let opened = settings(builder).open().await;
        Self {
            store: opened.expect("a setup that a store can have"),
            setup,
            folder: Some(folder),
            settings,
        }
    }

    async fn reopen(mut self) -> Self {
        self.store.close().await.expect("a store can be closed");
        let folder = self.folder.take().expect("it is there until the end");
        Self::open(folder, self.setup, self.settings).await
    }
}

/// The files must not come back behind the folder that goes.
impl Drop for Kept {
    fn drop(&mut self) {
        if self.folder.is_none() {
            return;
        }
        let store = self.store.clone();
        let closing = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime can be built");
            let closed =
                async { tokio::time::timeout(Duration::from_secs(10), store.close()).await };
            runtime.block_on(closed).is_ok()
        });
        let closed = closing.join().unwrap_or(false);
        assert!(closed || thread::panicking(), "a close takes ten seconds");
    }
}

impl Store for Kept {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        self.store.get_stream(key, range)
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        self.store.set_with_writer(key, draft)
    }

    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
        self.store.delete(key, fence)
    }

    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        self.store.stat(key)
    }

    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
        self.store.fence(key)
    }

    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }

    fn close(&self) -> Reply<'_, ()> {
        self.store.close()
    }

    fn fencing(&self) -> Fencing {
        self.store.fencing()
    }

    fn object_max(&self) -> Option<u64> {
        self.store.object_max()
    }

    fn identity(&self) -> Identity {
        self.store.identity()
    }

    fn as_touch(&self) -> Option<&dyn Touch> {
        self.store.as_touch()
    }

    fn as_list(&self) -> Option<&dyn List> {
        self.store.as_list()
    }
}

mod defaults {
    use super::*;

    async fn open(setup: Setup) -> Kept {
        Kept::new(setup, |builder| builder).await
    }

    larder_conformance::suite!(open, reopen = Kept::reopen);
}

mod synced {
    use super::*;

    async fn open(setup: Setup) -> Kept {
        Kept::new(setup, |builder| builder.durability(Durability::OnCommit)).await
    }

    larder_conformance::suite!(open, reopen = Kept::reopen);
}

mod all_in_files_of_their_own {
    use super::*;

    async fn open(setup: Setup) -> Kept {
        Kept::new(setup, |builder| builder.large_object(0)).await
    }

    larder_conformance::suite!(open, reopen = Kept::reopen);
}

mod staged_in_files {
    use super::*;

    async fn open(setup: Setup) -> Kept {
        Kept::new(setup, |builder| builder.staging_max(0)).await
    }

    larder_conformance::suite!(open, reopen = Kept::reopen);
}

mod boxed {
    use super::*;

    async fn open(setup: Setup) -> Box<dyn Store> {
        Box::new(Kept::new(setup, |builder| builder).await)
    }

    larder_conformance::suite!(open);
}

mod shared {
    use super::*;

    async fn open(setup: Setup) -> Arc<dyn Store> {
        Arc::new(Kept::new(setup, |builder| builder).await)
    }

    larder_conformance::suite!(open);
}
