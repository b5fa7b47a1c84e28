//! The store's handle: the contract and its capabilities over the shared state.

use std::sync::Arc;

use crate::{config::Settings, link::Link, names::Names};

/// A store in a Redis server; see the [crate] for what it does.
#[derive(Clone)]
pub struct Redis(pub(crate) Arc<Shared>);

/// What the handles, writers and bodies of one store share.
pub(crate) struct Shared {
    pub(crate) link: Link,
    pub(crate) names: Names,
    pub(crate) settings: Settings,
}
