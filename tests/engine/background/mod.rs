//! Background work: panics in it, close around it, and slow origins beside it.

mod panics;
mod shutdown;
mod width;

use larder::{Builder, Cache, Draft, ManualClock};

use crate::support::{SECOND, clock, impatient, stale_is_served};

/// A cache of short patience whose objects are served stale, and its clock.
fn patient_with_stale() -> (Builder, ManualClock) {
    let clock = clock();
    let cache = impatient().policy(stale_is_served()).clock(clock.clone());
    (cache, clock)
}

/// Stores these keys everywhere, and lets them become stale.
async fn make_stale(cache: &Cache, clock: &ManualClock, keys: &[&str]) {
    for key in keys {
        cache.insert(key, "old", Draft::new()).await.unwrap();
    }
    clock.advance(90 * SECOND);
}
