//! Keeps a store that is away from costing every operation its time-out.
//!
//! A circuit breaker (Nygard, "Release It!", 2007), with single probes: after some failures in a
//! row operations are refused at once; after a pause one probe asks, in a task of its own, so that
//! no reader waits for it; where it fails, the next pause is twice as long.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use larder_store::{Error, ErrorKind, Key, Result, Store};
use tokio::time::Instant;

use crate::{
    engine::Dice,
    runtime::Runtime,
    sync::{Mutex, lock},
    tier::Tier,
    within::within,
};

/// When a tier's store is taken to be away, and how soon it is asked again.
///
/// Failures are operations that ended as `Unavailable` or `Timeout`; whatever else the store
/// answers shows that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
    pause_min: Duration,
    pause_max: Duration,
}

impl Breaker {
    /// The default settings.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            failures: 5,
            pause_min: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
        }
    }

    /// How many operations in a row must fail. Zero is never. Default 5.
    #[must_use]
    pub const fn failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// How long the first pause is, and the longest: each is twice the one before, less a random
    /// share of up to a half, so that processes do not ask in step. A pause above ten years counts
    /// as ten years. Default 100 ms and 5 s.
    #[must_use]
    pub const fn pause(mut self, first: Duration, longest: Duration) -> Self {
        self.pause_min = first;
        self.pause_max = longest;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.pause_min.is_zero() || self.pause_max < self.pause_min {
            return Err(Error::invalid(
                "a breaker's first pause is above zero, its longest not below it",
            ));
        }
        Ok(())
    }

    /// With pauses of at most `max`.
    pub(crate) fn clamped(self, max: Duration) -> Self {
        Self {
            pause_min: self.pause_min.min(max),
            pause_max: self.pause_max.min(max),
            ..self
        }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

/// The breaker of a tier at work.
pub(crate) struct Guard {
    settings: Breaker,
    store: Arc<dyn Store>,
    /// How long a probe may take.
    bound: Duration,
    phase: Mutex<Phase>,
    dice: Dice,
    runtime: Runtime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// So many operations in a row have failed.
    Closed(u32),
    Open {
        until: Instant,
        pause: Duration,
    },
    /// A probe is under way; the pause before it was this long.
    Probing(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Go,
    Refuse,
    /// Refused as well, and the caller starts the probe.
    Probe,
}

impl Phase {
    fn admit(&mut self, now: Instant) -> Verdict {
        match *self {
            Self::Closed(_) => Verdict::Go,
            Self::Open { until, pause } if until <= now => {
                *self = Self::Probing(pause);
                Verdict::Probe
            }
            Self::Open { .. } | Self::Probing(_) => Verdict::Refuse,
        }
    }

    /// An operation ended. One that began before the store was given up may end later.
    fn ended(&mut self, failed: bool, settings: &Breaker, now: Instant, roll: f64) {
        match (*self, failed) {
            (Self::Closed(failures), true) if failures + 1 >= settings.failures => {
                *self = Self::open(settings.pause_min, now, roll);
            }
            (Self::Closed(failures), true) => *self = Self::Closed(failures + 1),
            (Self::Open { .. } | Self::Probing(_), true) => {}
            (_, false) => *self = Self::Closed(0),
        }
    }

    fn probed(&mut self, failed: bool, settings: &Breaker, now: Instant, roll: f64) {
        let Self::Probing(pause) = *self else { return };
        *self = if failed {
            Self::open((pause * 2).min(settings.pause_max), now, roll)
        } else {
            Self::Closed(0)
        };
    }

    fn open(pause: Duration, now: Instant, roll: f64) -> Self {
        let until = now + pause.mul_f64(1.0 - roll / 2.0);
        Self::Open { until, pause }
    }
}

impl Guard {
    /// None where the tier has no breaker.
    pub(crate) fn new(tier: &Tier, runtime: &Runtime, seed: u64) -> Option<Arc<Self>> {
        let settings = tier.breaker.filter(|settings| settings.failures > 0)?;
        Some(Arc::new(Self {
            settings,
            store: Arc::clone(&tier.store),
            bound: tier.timeout,
            phase: Mutex::new(Phase::Closed(0)),
            dice: Dice::new(seed),
            runtime: runtime.clone(),
        }))
    }

    /// Whether an operation may ask the store; if it is time to, a probe is sent.
    pub(crate) fn admits(self: &Arc<Self>) -> bool {
        let verdict = {
            let mut phase = lock(&self.phase);
            match *phase {
                Phase::Closed(_) => return true,
                _ => phase.admit(self.runtime.now()),
            }
        };
        if verdict == Verdict::Probe {
            self.runtime.handle().spawn(Arc::clone(self).probe());
        }
        false
    }

    /// Notes how an operation ended that was admitted.
    pub(crate) fn ended(&self, error: Option<&Error>) {
        let failed = error.is_some_and(is_failure);
        let mut phase = lock(&self.phase);
        if failed || *phase != Phase::Closed(0) {
            phase.ended(failed, &self.settings, self.runtime.now(), self.dice.roll());
        }
    }

    /// Asks for the metadata of a key that need not be there.
    async fn probe(self: Arc<Self>) {
        let ask = AssertUnwindSafe(async {
            let key = Key::new("larder.probe")?;
            self.store.stat(key).await.map(drop)
        });
        let failed = match within(&self.runtime, self.bound, ask.catch_unwind()).await {
            Ok(Ok(answer)) => answer.err().is_some_and(|error| is_failure(&error)),
            Ok(Err(_)) | Err(_) => true,
        };
        tracing::debug!(
            store = self.store.kind(),
            failed,
            "asked whether it is back"
        );
        let (now, roll) = (self.runtime.now(), self.dice.roll());
        lock(&self.phase).probed(failed, &self.settings, now, roll);
    }
}

fn is_failure(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guard({:?})", *lock(&self.phase))
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    const SETTINGS: Breaker = Breaker::new().failures(3);

    fn after(millis: u64, since: Instant) -> Instant {
        since + Duration::from_millis(millis)
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_does_not() {
        let now = Instant::now();
        let mut phase = Phase::Closed(0);
        for failed in [true, true, false, true, true] {
            assert_eq!(phase.admit(now), Verdict::Go);
            phase.ended(failed, &SETTINGS, now, 0.0);
        }
        assert_eq!(phase, Phase::Closed(2));
        phase.ended(true, &SETTINGS, now, 0.0);
        assert_eq!(phase.admit(after(99, now)), Verdict::Refuse);
        assert_eq!(phase.admit(after(100, now)), Verdict::Probe);
        assert_eq!(phase.admit(after(100, now)), Verdict::Refuse, "one probe");
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_the_dice_shorten_them() {
        let now = Instant::now();
        let mut phase = Phase::Probing(Duration::from_secs(2));
        phase.probed(true, &SETTINGS, now, 0.0);
        assert_eq!(phase.admit(after(3_999, now)), Verdict::Refuse);
        assert_eq!(phase.admit(after(4_000, now)), Verdict::Probe);
        phase.probed(true, &SETTINGS, now, 1.0);
        assert_eq!(
            phase.admit(after(2_500, now)),
            Verdict::Probe,
            "half of 5 s"
        );
        phase.probed(false, &SETTINGS, now, 0.0);
        assert_eq!(phase, Phase::Closed(0));
    }

    #[test]
    fn what_ends_late_closes_it_but_does_not_lengthen_the_pause() {
        let now = Instant::now();
        let mut phase = Phase::open(SETTINGS.pause_min, now, 0.0);
        let before = phase;
        phase.ended(true, &SETTINGS, after(50, now), 0.0);
        assert_eq!(phase, before);
        phase.ended(false, &SETTINGS, after(50, now), 0.0);
        assert_eq!(phase.admit(after(50, now)), Verdict::Go);
        phase.probed(true, &SETTINGS, now, 0.0);
        assert_eq!(phase, Phase::Closed(0), "a probe that nobody waits for");
    }
}
