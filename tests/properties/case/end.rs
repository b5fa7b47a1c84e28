//! How every run ends: all that is stalled goes on, nothing stays, and nothing is left behind.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use larder::InFlight;
use tokio::time::{sleep, timeout};

use super::{
    ops::{Ask, KEYS},
    world::{LONG, World},
};

/// Longer than any delay.
const MINUTE: Duration = Duration::from_secs(60);

impl World {
    pub(crate) async fn end(worlds: &[Arc<Self>]) {
        for faults in worlds.iter().flat_map(|world| &world.faults) {
            faults.clear();
            faults.release();
        }
        // A write whose caller left is in no table before its commit.
        sleep(MINUTE).await;
        for world in worlds {
            if !world.rest(|| true).await {
                let flying = world.cache.in_flight();
                world.wrong(&format!("never at rest: {flying:?}"));
            }
        }
        // Whatever is found obeys the history too.
        for world in worlds {
            for key in 0..KEYS {
                world.get(key, Ask::default()).await;
            }
        }
        for world in worlds {
            world.clear().await;
            world.check_counters();
        }
        for world in worlds {
            match timeout(LONG, world.cache.close()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => world.wrong(&format!("it does not close: {error}")),
                Err(_) => world.wrong("it hangs at its close"),
            }
        }
    }

    /// Waits until nothing is under way, and `also` holds.
    async fn rest(&self, also: impl Fn() -> bool) -> bool {
        for _ in 0..10_000 {
            let InFlight {
                flights,
                turns,
                refreshes,
                behind,
                failures,
                ..
            } = self.cache.in_flight();
            if [flights, turns, refreshes, behind, failures] == [0; 5] && also() {
                return true;
            }
            sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// Deletes everything: no tier holds anything then, and no key is in any table.
    async fn clear(&self) {
        match timeout(LONG, self.cache.clear()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.wrong(&format!("nothing is broken, but a clear fails: {error}")),
            Err(_) => self.wrong("it hangs at a clear"),
        }
        // A flight that was retired is in no table, and may hold staged bytes for a while.
        let is_empty = || {
            let mut usage = self.cache.usage().into_iter();
            usage.all(|usage| (usage.entries, usage.live, usage.staged) == (0, 0, 0))
                && self.cache.in_flight() == InFlight::default()
        };
        if !self.rest(is_empty).await {
            let (flying, usage) = (self.cache.in_flight(), self.cache.usage());
            self.wrong(&format!("after a clear there is {flying:?} and {usage:?}"));
        }
    }

    /// Each read was counted once, and each hit by the tier that gave it.
    fn check_counters(&self) {
        let (counted, began) = (self.cache.counters(), self.reads.load(Ordering::Relaxed));
        let tiers = self.cache.tiers();
        let hits: u64 = tiers.iter().map(|tier| tier.counters.hits).sum();
        let bytes: u64 = tiers.iter().map(|tier| tier.counters.hit_bytes).sum();
        if (counted.reads(), counted.hits, counted.hit_bytes) != (began, hits, bytes) {
            self.wrong(&format!(
                "{began} reads, of which tiers gave {hits}, are {counted:?}"
            ));
        }
    }

    fn wrong(&self, what: &str) {
        self.history.violation(what.to_owned());
    }
}
