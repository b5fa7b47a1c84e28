//! The contract, clause by clause, under each policy and through the pointers that users hold.

use larder_conformance::Setup;
use larder_memory::{Eviction, Memory};
use larder_store::Store;

fn store(setup: Setup, policy: Eviction) -> Memory {
    Memory::builder(setup.capacity)
        .object_max(setup.object_max)
        .policy(policy)
        .build()
        .expect("a setup that a store can have")
}

mod s3_fifo {
    use super::*;

    larder_conformance::suite!(async |setup: Setup| store(setup, Eviction::S3Fifo));
}

mod boxed {
    use super::*;

    async fn open(setup: Setup) -> Box<dyn Store> {
        Box::new(store(setup, Eviction::S3Fifo))
    }

    larder_conformance::suite!(open);
}

mod shared {
    use std::sync::Arc;

    use super::*;

    async fn open(setup: Setup) -> Arc<dyn Store> {
        Arc::new(store(setup, Eviction::S3Fifo))
    }

    larder_conformance::suite!(open);
}

#[cfg(feature = "moka")]
mod tiny_lfu {
    use super::*;

    larder_conformance::suite!(async |setup: Setup| store(setup, Eviction::TinyLfu));
}

#[cfg(feature = "moka")]
mod lru {
    use super::*;

    larder_conformance::suite!(async |setup: Setup| store(setup, Eviction::Lru));
}
