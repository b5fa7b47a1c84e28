//! The contract, clause by clause, against a real server, with bodies in one chunk and in many, and
//! through the pointers that users hold.

use std::sync::Arc;

use larder_conformance::Setup;
use larder_redis::{Builder, Redis};
use larder_servers::Server;
use larder_store::{
    Bus, ByteRange, Commit, Draft, Fence, Fencing, Identity, Key, Lease, List, Lookup, Metadata,
    Reply, Store, Touch, Usage, Writer,
};

/// A store whose servers go with it.
#[derive(Debug)]
struct Served {
    store: Redis,
    servers: Servers,
    setup: Setup,
    settings: fn(Builder) -> Builder,
}

#[derive(Debug)]
enum Servers {
    One(Server),
    #[cfg(feature = "cluster")]
    Cluster(larder_servers::Cluster),
}

impl Served {
    async fn new(setup: Setup, settings: fn(Builder) -> Builder) -> Self {
        Self::connect(Servers::One(Server::start()), setup, settings).await
    }

    async fn connect(servers: Servers, setup: Setup, settings: fn(Builder) -> Builder) -> Self {
        let builder = match &servers {
            Servers::One(server) => Redis::builder(server.url()),
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => Redis::cluster(cluster.urls()),
        };
        let store = settings(builder.object_max(setup.object_max))
            .connect()
            .await;
        Self {
            store: store.expect("the servers are there"),
            servers,
            setup,
            settings,
        }
    }

    async fn reopen(self) -> Self {
        self.store.close().await.expect("a store can be closed");
        Self::connect(self.servers, self.setup, self.settings).await
    }
}

impl Store for Served {
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

    fn as_lease(&self) -> Option<&dyn Lease> {
        self.store.as_lease()
    }

    fn as_bus(&self) -> Option<&dyn Bus> {
        self.store.as_bus()
    }
}

mod defaults {
    use super::*;

    async fn open(setup: Setup) -> Served {
        Served::new(setup, |builder| builder).await
    }

    larder_conformance::suite!(open, reopen = Served::reopen);
}

mod in_small_chunks {
    use super::*;

    async fn open(setup: Setup) -> Served {
        Served::new(setup, |builder| builder.chunk_size(4 << 10)).await
    }

    larder_conformance::suite!(open, reopen = Served::reopen);
}

mod over_one_connection {
    use super::*;

    async fn open(setup: Setup) -> Served {
        Served::new(setup, |builder| builder.connections(1).read_ahead(1)).await
    }

    larder_conformance::suite!(open, reopen = Served::reopen);
}

#[cfg(feature = "cluster")]
mod in_a_cluster {
    use larder_servers::Cluster;

    use super::*;

    async fn open(setup: Setup) -> Served {
        let settings = |builder: Builder| builder.chunk_size(16 << 10);
        Served::connect(Servers::Cluster(Cluster::start()), setup, settings).await
    }

    larder_conformance::suite!(open, reopen = Served::reopen);
}

mod boxed {
    use super::*;

    async fn open(setup: Setup) -> Box<dyn Store> {
        Box::new(Served::new(setup, |builder| builder).await)
    }

    larder_conformance::suite!(open);
}

mod shared {
    use super::*;

    async fn open(setup: Setup) -> Arc<dyn Store> {
        Arc::new(Served::new(setup, |builder| builder).await)
    }

    larder_conformance::suite!(open);
}
