//! What a builder refuses, and why.

use std::time::Duration;

use larder_store::{Error, Result, Store, Terms};

use super::{Builder, DAY, TIERS_MAX};
use crate::{bus, engine::OnAbandon, tier::Tier};

impl Builder {
    pub(super) fn check(&self) -> Result<()> {
        let settings = &self.settings;
        let invalid = |message: &'static str| Err(Error::invalid(message));
        if self.tiers.is_empty() {
            return invalid("a cache needs at least one tier");
        }
        if self.tiers.len() > TIERS_MAX {
            return invalid("a cache has at most 16 tiers");
        }
        if self.tiers[0].behind {
            return invalid("the first tier cannot be written behind");
        }
        for (index, tier) in self.tiers.iter().enumerate() {
            let identity = tier.store.identity();
            if let Some(first) = self.tiers[..index]
                .iter()
                .position(|other| other.store.identity() == identity)
            {
                let kind = tier.store.kind();
                return Err(Error::invalid(format!(
                    "the same {kind} store was given twice, as tier {first} and as tier {index}"
                )));
            }
            if tier.timeout.is_zero() || tier.write_stall.is_zero() {
                return invalid("a tier needs time: its time-outs cannot be zero");
            }
            tier.breaker.unwrap_or_default().check()?;
            if tier.ttl_max.is_some_and(|ttl| ttl.is_zero()) {
                return invalid("a tier that caps lifetimes at zero holds nothing");
            }
        }
        let (running, queued) = (settings.refreshes_max, settings.refresh_queue_max);
        if [settings.flights_max, settings.fetches_max, running, queued].contains(&0) {
            return invalid("a limit of zero flights, fetches or refreshes lets nothing through");
        }
        if self.tiers.iter().any(|tier| tier.behind)
            && ([settings.behind_queue_max, settings.behind_max].contains(&0)
                || settings.behind_bytes_max == 0)
        {
            return invalid("a tier is written behind, but its queue has no room");
        }
        if settings.spool.memory < 128 << 10 || settings.spool_memory_total < settings.spool.memory
        {
            return invalid("spool_memory is at least 128 KiB, spool_memory_total at least that");
        }
        if settings.fetch_timeout.is_zero() || settings.idle_timeout.is_zero() {
            return invalid("a time-out of zero lets nothing through");
        }
        if let OnAbandon::FinishIf(share) = settings.on_abandon
            && !(0.0..=1.0).contains(&share)
        {
            return invalid("the share of an abandoned flight is from 0.0 to 1.0");
        }
        if let Some(store) = &self.leases {
            self.check_leases(&**store)?;
        }
        if let Some(store) = &self.bus {
            self.check_bus(&**store)?;
        }
        self.policy.check()
    }

    /// The tier that is this store.
    fn tier_of(&self, store: &dyn Store) -> Option<&Tier> {
        let is_it = |tier: &&Tier| tier.store.identity() == store.identity();
        self.tiers.iter().find(is_it)
    }

    fn check_leases(&self, store: &dyn Store) -> Result<()> {
        if store.as_lease().is_none() {
            let kind = store.kind();
            return Err(Error::invalid(format!(
                "the {kind} store has no leases to give"
            )));
        }
        let finds = |tier: &Tier| tier.shared && !tier.behind;
        if !self.tier_of(store).is_none_or(finds) {
            // Who waited would find nothing there, and fetch after all.
            return Err(Error::invalid(
                "the tier that gives leases is not marked as shared, or is written behind",
            ));
        }
        let ttl = self.settings.lease_ttl;
        if ttl < Duration::from_millis(10) {
            return Err(Error::invalid("a lease lasts at least 10 ms"));
        }
        if self.settings.lease_wait > DAY {
            return Err(Error::invalid("lease_wait is at most a day"));
        }
        let (who, why) = (self.process.clone().unwrap_or_default(), "".into());
        Terms { who, why, ttl }.check()
    }

    fn check_bus(&self, store: &dyn Store) -> Result<()> {
        if store.as_bus().is_none() {
            let kind = store.kind();
            return Err(Error::invalid(format!("the {kind} store has no bus")));
        }
        if self.tier_of(store).is_some_and(|tier| !tier.shared) {
            // What the others write there would be deleted here.
            return Err(Error::invalid(
                "the tier that is the bus is not marked as shared",
            ));
        }
        if !(bus::BOUND_MIN..=DAY).contains(&self.settings.bus_bound) {
            let min = bus::BOUND_MIN;
            return Err(Error::invalid(format!(
                "bus_bound is at least {min:?} and at most a day"
            )));
        }
        Ok(())
    }
}
