//! The one place that checks the settings: what a builder refuses and why, and which limits it
//! lowers.
//!
//! The builder refuses a setting that cannot work. It lowers a limit that no cache can reach to one
//! that tokio and the arithmetic of `Instant` take, so that "no limit" can be written as the
//! largest number. Lifetimes merge at each read and write, where [`Policy::check`] checks them.
//!
//! [`Policy::check`]: crate::Policy::check

use std::{fs, io, path::Path, time::Duration};

use larder_store::{Error, ErrorKind, Result, Store, Terms};
use tokio::sync::Semaphore;

use super::{Builder, DAY, TIERS_MAX};
use crate::{
    bus,
    engine::{OnAbandon, Settings},
    tier::Tier,
};

/// Longest wait. A longer one counts as this long, and the end of each wait is an `Instant`.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Builder {
    /// The builder with settings that work.
    pub(super) fn checked(mut self) -> Result<Self> {
        self.check()?;
        self.settings.lower();
        for tier in &mut self.tiers {
            tier.lower();
        }
        Ok(self)
    }

    fn check(&self) -> Result<()> {
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
        self.policy.check()?;
        settings.check_spool_dir()
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

impl Settings {
    /// Lowers limits that nothing reaches, and resolves the path.
    fn lower(&mut self) {
        let permits = [
            &mut self.fetches_max,
            &mut self.refreshes_max,
            &mut self.behind_max,
        ];
        for max in permits {
            *max = (*max).min(Semaphore::MAX_PERMITS);
        }
        let waits = [
            &mut self.fetch_timeout,
            &mut self.idle_timeout,
            &mut self.close_timeout,
        ];
        for wait in waits {
            *wait = (*wait).min(WAIT_MAX);
        }
        // Resolved once, whatever becomes of the working directory.
        if let Ok(dir) = std::path::absolute(&self.spool_dir) {
            self.spool_dir = dir;
        }
    }

    /// Checks that spill files can be made.
    fn check_spool_dir(&self) -> Result<()> {
        let dir = &self.spool_dir;
        let spills = self.spool.disk > 0 && self.spool_disk_total > 0;
        let refused = |what: &str, error: io::Error| {
            let message = format!("spool_dir {} {what}", dir.display());
            Err(Error::with_source(ErrorKind::Invalid, message, error))
        };
        match fs::metadata(dir) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                let message = format!("spool_dir {} is not a folder", dir.display());
                return Err(Error::invalid(message));
            }
            // A system without a folder for temporary files, where none is needed.
            Err(_) if !spills && *dir == std::env::temp_dir() => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return refused("does not exist", error);
            }
            Err(_) if !spills => return Ok(()),
            Err(error) => return refused("cannot be read", error),
        }
        match probe(dir) {
            Err(error) if spills => refused("cannot be written", error),
            _ => Ok(()),
        }
    }
}

/// Makes a file as a flight that spills does. A full disk passes: it may have room later.
fn probe(dir: &Path) -> io::Result<()> {
    match tempfile::tempfile_in(dir) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

impl Tier {
    /// Lowers limits that nothing reaches.
    fn lower(&mut self) {
        self.timeout = self.timeout.min(WAIT_MAX);
        self.write_stall = self.write_stall.min(WAIT_MAX);
        self.breaker = self.breaker.map(|breaker| breaker.clamped(WAIT_MAX));
    }
}
