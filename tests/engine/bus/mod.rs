//! Several processes, each with private tiers, over one shared store that is their bus.

mod checks;
mod clears;
mod drawn;
mod ends;
mod fills;
mod line;
mod losses;
mod tells;

use std::time::Duration;

use larder::{Builder, Cache, Clock, Memory, Policy, Timestamp};
use tokio::time::{Instant, sleep};

use self::line::Line;
use crate::support::{SECOND, strict, text};

/// The bound of these tests, and the default.
const BOUND: Duration = Duration::from_secs(5);

/// Longer than any message takes that nothing holds up.
const SOON: Duration = Duration::from_millis(20);

/// A wall clock that goes as tokio's does.
#[derive(Clone, Debug)]
struct WallClock {
    from: Instant,
    at: Timestamp,
}

impl WallClock {
    fn new() -> Self {
        let (from, at) = (Instant::now(), Timestamp::from_millis(1_700_000_000_000));
        Self { from, at }
    }
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        self.at.after(self.from.elapsed())
    }
}

/// A memory store by this clock.
fn memory_of(clock: &WallClock) -> Memory {
    let clock = clock.clone();
    let builder = Memory::builder(16 << 20).clock(move || clock.now());
    builder.build().unwrap()
}

/// Processes over one line.
struct World {
    clock: WallClock,
    line: Line,
}

impl World {
    fn new() -> Self {
        let clock = WallClock::new();
        let line = Line::new(memory_of(&clock));
        Self { clock, line }
    }

    fn memory(&self) -> Memory {
        memory_of(&self.clock)
    }

    /// A cache without tiers.
    fn builder(&self) -> Builder {
        let policy = strict().ttl(Duration::from_secs(3600));
        Cache::builder().policy(policy).clock(self.clock.clone())
    }

    /// A process: private memory over the shared store.
    async fn process(&self) -> Cache {
        self.process_with(|builder| builder).await
    }

    async fn process_with(&self, with: impl FnOnce(Builder) -> Builder) -> Cache {
        let shared = larder::Tier::new(self.line.clone()).shared();
        let builder = self.builder().tier(self.memory()).tier(shared);
        let cache = with(builder.bus(self.line.clone())).build().unwrap();
        // It listens, and has heard itself and the others.
        sleep(BOUND / 2).await;
        cache
    }
}

/// The lifetimes of the world, otherwise as told.
fn lives(policy: Policy) -> Policy {
    policy.or(strict())
}

/// What a `get` gives.
async fn get(cache: &Cache) -> Option<String> {
    let response = cache.get("a").await.unwrap();
    if response.is_absent() {
        return None;
    }
    Some(text(response).await)
}

/// Puts `a` into a process, and has the others fetch it from the shared store.
async fn spread(bytes: &'static str, from: &Cache, to: &[&Cache]) {
    from.insert("a", bytes, larder::Draft::new()).await.unwrap();
    sleep(SOON).await;
    for cache in to {
        assert_eq!(get(cache).await.as_deref(), Some(bytes));
        crate::support::settle(cache).await;
        assert_eq!(source(cache).await, 0, "it has a copy of its own");
    }
}

/// Which tier answers.
async fn source(cache: &Cache) -> u8 {
    match cache.get("a").await.unwrap().status().source() {
        larder::Source::Tier { index, .. } => *index,
        other => panic!("{other:?}"),
    }
}

/// Waits that long, looking every now and then.
async fn asks_for(cache: &Cache, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        get(cache).await;
        sleep(SECOND / 10).await;
    }
}
