//! Who may write at all: limits that spare the disk.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use larder_store::{Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::{
    config::{self, Settings},
    ghost::Ghost,
};

/// What lets writers in, by setting.
pub(crate) struct Gate {
    rate: Option<Mutex<Rate>>,
    offered: Option<Ghost>,
}

/// A bucket that holds a second's worth of bytes.
struct Rate {
    max: u64,
    left: u64,
    at: Instant,
}

impl Gate {
    pub(crate) fn new(settings: &Settings) -> Self {
        let rate = settings.write_rate_max.map(|max| {
            let at = Instant::now();
            Mutex::new(Rate { max, left: max, at })
        });
        let second_hit = settings.admission == config::Admission::SecondHit;
        Self {
            rate,
            offered: second_hit.then(Ghost::new),
        }
    }

    /// Takes these bytes out of what may be written; `Full` where there are not so many left. More
    /// than a second's worth is taken in advance, so that it can pass at all.
    pub(crate) fn spend(&self, bytes: u64) -> Result<()> {
        let Some(rate) = &self.rate else {
            return Ok(());
        };
        let mut rate = rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.refill(Instant::now());
        if rate.left == 0 || rate.left < bytes.min(rate.max) {
            return Err(full("more is written than the write rate allows"));
        }
        rate.left -= bytes.min(rate.left);
        Ok(())
    }

    /// Lets an object with a file of its own in: where so set, only when it was offered before.
    pub(crate) fn offer(&self, hash: u64) -> Result<()> {
        let Some(offered) = &self.offered else {
            return Ok(());
        };
        if offered.contains(hash) {
            return Ok(());
        }
        offered.insert(hash);
        Err(full("a large object is let in when it is offered again"))
    }
}

impl Rate {
    fn refill(&mut self, now: Instant) {
        let since = now
            .saturating_duration_since(self.at)
            .min(Duration::from_secs(1));
        let more = u128::from(self.max) * since.as_nanos() / 1_000_000_000;
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(self.max);
            self.at = now;
        }
    }
}

fn full(message: &'static str) -> Error {
    Error::new(ErrorKind::Full, message)
}
