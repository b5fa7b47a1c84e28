//! Following what other processes replace and delete.
//!
//! A cache with a bus tells the others which keys it wrote, deleted or refreshed ([`outbox`]),
//! hears what they tell ([`listen`]) and deletes those keys in its private tiers ([`inbox`]). What
//! may have been missed ends the *generation* ([`trust`]): an entry of a private tier is served
//! only if it is known to be current since the generation that now runs began. Any other is checked
//! first, in a shared tier or at the origin, and renewed in place where it is still right.
//!
//! Invariants:
//! 1. An entry bears the generation that ran *before* its look-up, fetch or write began. Shared
//!    tiers bear none: they are the truth that is checked against.
//! 2. Nothing here holds a read up: a hit compares two numbers, all else is done by tasks.
//! 3. Every message that is lost is followed by a new generation, at the latest a `bus_bound` after
//!    its verb returned. [`Pace`] parts that time; `docs/architecture.md` has the proof.
//! 4. Queues and tables are bounded. What does not fit costs a generation, never a message.
//! 5. A flight that is older than half the bound when it has committed brings something to a shared
//!    tier only if it began in the generation that runs. Otherwise this process may have missed a
//!    `clear`, which waits for the bound before it deletes. A write that is queued for a shared tier
//!    is held to this whatever its age, since it follows later.

mod inbox;
mod listen;
mod outbox;
mod publishers;
mod trust;

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use larder_store::{ErrorKind, Header, KeyBuf, Result, Timestamp};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use self::{inbox::Inbox, outbox::Outbox, trust::Trust};
use crate::{
    counters::count,
    engine::{Engine, refused},
    sync::{Mutex, lock},
    tier::Place,
    within::within,
};

/// The shortest `bus_bound`: below it the tasks behind would be late by themselves.
pub(crate) const BOUND_MIN: Duration = Duration::from_millis(100);

/// The longest that a write, delete or `clear` waits until the bus has taken its message. The tiers
/// have time-outs of their own; this comes after them.
const TELL_MAX: Duration = Duration::from_secs(1);

/// How the bound is parted. With `window + silence + settle + 2 * tick` it is used up.
#[derive(Clone, Copy, Debug)]
struct Pace {
    bound: Duration,
    /// How long after it was sent an own message, come back, proves that messages come.
    window: Duration,
    /// How long another publisher may say nothing, and a message wait to be applied.
    silence: Duration,
    /// How long a number may be missing: messages that change places are no loss.
    settle: Duration,
    /// How often all that is looked at.
    tick: Duration,
    /// After how long without a message a beat is sent.
    beat: Duration,
    /// How long a verb waits until its message is taken. Where all was well before, it returns less
    /// than `silence` after the last message that was.
    tell: Duration,
}

impl Pace {
    fn new(bound: Duration) -> Self {
        Self {
            bound,
            window: bound * 2 / 5,
            silence: bound * 2 / 5,
            settle: bound / 10,
            tick: bound / 20,
            beat: bound / 5,
            tell: TELL_MAX.min(bound / 5),
        }
    }
}

/// The engine's end of the bus.
pub(crate) struct Bus {
    trust: Trust,
    outbox: Arc<Outbox>,
    inbox: Inbox,
    pace: Pace,
    place: Place,
    /// The store is a tier as well, and closed as one.
    is_tier: bool,
    sender: Mutex<Option<JoinHandle<()>>>,
}

/// When a flight began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Since {
    /// The generation that ran, zero without a bus.
    pub(crate) generation: u64,
    at: Option<Instant>,
}

impl Bus {
    /// The end of a bus in `place`, from which nothing was heard yet.
    pub(crate) fn new(place: Place, is_tier: bool, bound: Duration, now: Timestamp) -> Self {
        // Not from the cache's dice: caches of one seed must differ, as must one before and after
        // a restart.
        let draw = |what: &str| RandomState::new().hash_one((what, now.as_millis()));
        let pace = Pace::new(bound);
        Self {
            trust: Trust::new(draw("generation"), pace),
            outbox: Arc::new(Outbox::new(draw("publisher"), pace)),
            inbox: Inbox::default(),
            pace,
            place,
            is_tier,
            sender: Mutex::default(),
        }
    }

    /// Keys of which the others were not told yet.
    pub(crate) fn outbox_len(&self) -> usize {
        self.outbox.len()
    }

    /// Keys of which others told, not yet deleted here.
    pub(crate) fn inbox_len(&self) -> usize {
        self.inbox.len()
    }

    /// A new generation begins.
    fn distrust(&self, engine: &Engine, why: &'static str) {
        self.trust.begin();
        note(engine, why);
    }

    /// Tells what waits to be told, says good-bye and closes the store, each within the bound.
    pub(crate) async fn end(&self, bound: Duration) -> Result<()> {
        self.outbox.end(self.place.runtime.now());
        let sender = lock(&self.sender).take();
        if let Some(mut sender) = sender
            && within(
                &self.place.runtime,
                bound.min(outbox::END_WAIT * 2),
                &mut sender,
            )
            .await
            .is_err()
        {
            sender.abort();
        }
        if self.is_tier {
            return Ok(());
        }
        let bound = bound.min(self.place.tier.timeout);
        let close = || self.place.store().close();
        self.place.bounded(bound, "closing", close).await
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // The cache was dropped without a close: its task says good-bye by itself.
        self.outbox.end(self.place.runtime.now());
    }
}

/// Counts a new generation.
fn note(engine: &Engine, why: &'static str) {
    count(&engine.counts.bus_gaps);
    tracing::debug!(why, "private tiers are checked before they serve");
}

/// Starts what a cache with a bus does behind.
pub(crate) fn start(engine: &Arc<Engine>) {
    let Some(bus) = &engine.bus else { return };
    let sending = outbox::run(
        Arc::clone(&bus.outbox),
        Arc::clone(&bus.place.tier.store),
        Arc::clone(&engine.clock),
        Arc::clone(&engine.counts),
    );
    // Not tracked: it outlasts the verbs that are under way when the cache is closed, and holds
    // nothing of the engine, so that it ends with it.
    *lock(&bus.sender) = Some(engine.tasks.runtime().handle().spawn(sending));
    let listening = Arc::clone(engine);
    engine.tasks.spawn(async move {
        tokio::select! {
            biased;
            () = listening.tasks.idle() => {}
            () = listen::run(&listening) => {}
        }
    });
}

impl Engine {
    /// When what begins now began, for [`joins`](Self::joins) and as the stamp of what it stores.
    pub(crate) fn since(&self) -> Since {
        match &self.bus {
            None => Since::default(),
            Some(bus) => Since {
                generation: bus.generation(self),
                at: Some(self.tasks.runtime().now()),
            },
        }
    }

    /// The stamp of what is written from now on.
    pub(crate) fn generation(&self) -> u64 {
        self.bus.as_ref().map_or(0, |bus| bus.generation(self))
    }

    /// Whether what began then may answer a read that begins now. What began in an earlier
    /// generation may while it is young: what it gives is then within the bound all the same.
    pub(crate) fn joins(&self, since: Since) -> bool {
        let Some(bus) = &self.bus else { return true };
        let is_young = |at: Instant| bus.place.runtime.now() - at <= bus.pace.bound;
        since.generation == bus.generation(self) || since.at.is_some_and(is_young)
    }

    /// Whether a flight that began then may bring something to a shared tier. A `clear` that it may
    /// have missed waits for the bound before it deletes, so a flight of half that age has landed
    /// before.
    pub(crate) fn may_share(&self, since: Since) -> bool {
        let Some(bus) = &self.bus else { return true };
        let is_young = |at: Instant| self.tasks.runtime().now() - at < bus.pace.bound / 2;
        since.generation == bus.generation(self) || since.at.is_some_and(is_young)
    }

    /// Whether another generation has begun since this one: a `clear` may have been missed
    /// meanwhile.
    pub(crate) fn is_past(&self, generation: u64) -> bool {
        generation != self.generation()
    }

    /// Whether an entry of a tier is known to be current, as far as its lifetimes do not decide.
    #[inline]
    pub(crate) fn trusts(&self, place: &Place, header: &Header, now: Timestamp) -> bool {
        match &self.bus {
            None => true,
            Some(bus) => place.tier.shared || bus.trust.holds(header.generation, now),
        }
    }

    /// Tells the others that what they hold under the key is not to be served, and waits a while
    /// until the bus has taken it. To be called when the shared tiers have changed.
    ///
    /// It follows when the bus takes messages again. `Unavailable` where nothing was taken for so
    /// long that the others may not miss this process any more, and serve what they have.
    pub(crate) async fn tell(&self, key: &KeyBuf) -> Result<()> {
        match &self.bus {
            Some(bus) => self.told(bus, bus.outbox.push(key)).await,
            None => Ok(()),
        }
    }

    /// As [`tell`](Self::tell), without the wait.
    pub(crate) fn tell_behind(&self, key: &KeyBuf) {
        if let Some(bus) = &self.bus {
            bus.outbox.push(key);
        }
    }

    /// As [`tell`](Self::tell), of all that they hold.
    pub(crate) async fn tell_all(&self) -> Result<()> {
        match &self.bus {
            Some(bus) => self.told(bus, bus.outbox.push_all()).await,
            None => Ok(()),
        }
    }

    /// Tells the others that a `clear` begins, and waits until each of them has heard it or knows
    /// that it may have missed something. After that no process stores in a shared tier what it
    /// began to fetch before.
    ///
    /// A process that lost the message finds that out within the bound, as for any other message.
    /// Without a bus or a shared tier it tells nobody and waits for nothing.
    ///
    /// `Unavailable` when the bus did not take the message within the bound. A `close` that cuts
    /// its tasks ends the wait.
    pub(crate) async fn announce_clear(&self) -> Result<()> {
        let Some(bus) = &self.bus else { return Ok(()) };
        if !self.tiers.iter().any(|place| place.tier.shared) {
            return Ok(());
        }
        let bound = bus.pace.bound;
        let heard = async {
            let ticket = bus.outbox.push_all();
            let sent = bus.outbox.sent(ticket);
            if within(self.tasks.runtime(), bound, sent).await.is_err() {
                return Err(refused(
                    ErrorKind::Unavailable,
                    "the keys that were found are deleted, but the bus took no message before: \
                     other processes may have stored again what they were fetching",
                ));
            }
            sleep(bound).await;
            Ok(())
        };
        tokio::select! {
            biased;
            () = self.tasks.cut.cancelled() => Ok(()),
            heard = heard => heard,
        }
    }

    async fn told(&self, bus: &Bus, ticket: u64) -> Result<()> {
        let sent = bus.outbox.sent(ticket);
        if within(self.tasks.runtime(), bus.pace.tell, sent)
            .await
            .is_ok()
        {
            return Ok(());
        }
        count(&self.counts.bus_late);
        if bus.outbox.is_missed() {
            return Ok(());
        }
        Err(refused(
            ErrorKind::Unavailable,
            "it was done here, but the bus takes nothing: other processes may not know of it yet",
        ))
    }
}

impl Bus {
    /// The generation that runs. Who finds that this process was paused ends it, so that nothing
    /// old is taken for new before the tasks behind have woken up.
    fn generation(&self, engine: &Engine) -> u64 {
        if self.trust.lapses(engine.now(), self.place.runtime.now()) {
            note(engine, "no own message came back in time");
        }
        self.trust.current()
    }
}
