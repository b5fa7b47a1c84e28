//! Fences for flights that go on after this process has published under their key.
//!
//! A fence ends when anything is published under its key. Two flights of one key each hold fences,
//! and the later one must be stored whichever lands first. So the one that commits, still in the
//! key's turn, takes new fences for the others, and checks that nobody but itself came between.
//! Bytes that they staged under the old fence are staged again.

use std::sync::Arc;

use larder_store::{Error, KeyBuf, Metadata, Version};

use super::flight::{Flight, Refence};
use crate::{engine::Engine, tier::Place};

/// A tier that a commit has changed, and the object that it left there.
pub(crate) type Change = (usize, Option<Version>);

/// Lets other flights of the key go on after these changes. To be called under the key's turn.
pub(crate) async fn refence_others(
    engine: &Engine,
    key: &KeyBuf,
    changed: &[Change],
    others: &[Arc<Flight>],
) {
    for &(tier, version) in changed {
        let place = &engine.tiers[tier];
        // Where this fails they are superseded there, and store nothing.
        let Ok((fence, there)) = fence_now(place, key).await else {
            continue;
        };
        if there.as_ref().map(|metadata| metadata.version()) != version {
            continue;
        }
        for other in others {
            other.refence(Refence {
                tier,
                fence: fence.clone(),
                there: there.clone(),
            });
        }
    }
}

/// A fence, and what is there under it.
async fn fence_now(
    place: &Place,
    key: &KeyBuf,
) -> Result<(larder_store::Fence, Option<Arc<Metadata>>), Error> {
    let fence = place
        .attempt("taking a fence", || place.store().fence(key.as_key()))
        .await?;
    let there = place
        .attempt("asking for metadata", || place.store().stat(key.as_key()))
        .await?;
    Ok((fence, there))
}
