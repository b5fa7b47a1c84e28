//! S85: processes, steps and faults of the bus at random, judged by what each read gives.
//!
//! Each value has a number of its own. A fetched value is made when its fetch begins, an inserted
//! one when the insert returns. A read that begins more than the bound after a delete or a `clear`
//! returned may not give a value that was made before that call began.
//!
//! `PROPTEST_CASES=20000 cargo test --release --test engine -- --ignored long_s85` runs it for long.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use futures_util::future::join_all;
use larder::{Cache, Error, Fetched, Store, Tier};
use larder_conformance::{Fault, Faulty, Op};
use larder_store::Message;
use proptest::{prelude::*, sample::select};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    BOUND, World,
    line::{Fate, Line, Way},
    losses::publishers,
};
use crate::support::text;

/// Timers fire up to a millisecond late, and several are chained.
const TIMERS: Duration = Duration::from_millis(5);

/// Moments of a script: this many a bound.
const PARTS: u16 = 100;

const KEYS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
struct Script {
    /// How long an operation of the shared store takes, for each process.
    lags: Vec<Lags>,
    steps: Vec<Step>,
    troubles: Vec<Trouble>,
    /// How often each process looks at each key.
    every: u16,
}

#[derive(Clone, Debug)]
struct Lags {
    commit: u16,
    delete: u16,
    get: u16,
    list: u16,
    /// This commit takes this long.
    slow: (u64, u16),
}

#[derive(Clone, Debug)]
struct Step {
    at: u16,
    process: usize,
    key: &'static str,
    does: Does,
}

#[derive(Clone, Debug)]
enum Does {
    /// Reads, with a fetch that takes this long.
    Read(u16),
    Refresh(u16),
    Insert,
    Delete,
    Clear,
    /// Its private tier evicts the key.
    Evict,
}

#[derive(Clone, Debug)]
struct Trouble {
    at: u16,
    lasts: u16,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// A subscriber hears nothing.
    Deaf(usize),
    /// A subscriber hears nothing of one publisher, for less time than silence is noticed in.
    Misses(usize, usize),
    /// A subscriber hears everything much later.
    Late(usize),
    Twice,
    /// Messages overtake each other.
    Mixed,
    Refused,
    Unsubscribed,
    Lost,
}

fn script() -> impl Strategy<Value = Script> {
    let time = 0..4 * PARTS;
    let key = select(&KEYS[..]);
    let does = prop_oneof![
        6 => (0..2 * PARTS).prop_map(Does::Read),
        1 => (0..2 * PARTS).prop_map(Does::Refresh),
        1 => Just(Does::Insert),
        1 => Just(Does::Delete),
        3 => Just(Does::Clear),
        2 => Just(Does::Evict),
    ];
    let step = (time.clone(), 0..3_usize, key, does).prop_map(|(at, process, key, does)| Step {
        at,
        process,
        key,
        does,
    });
    let kind = prop_oneof![
        3 => (0..3_usize).prop_map(Kind::Deaf),
        4 => (0..3_usize, 0..3_usize).prop_map(|(ear, who)| Kind::Misses(ear, who)),
        1 => (0..3_usize).prop_map(Kind::Late),
        1 => Just(Kind::Twice),
        1 => Just(Kind::Mixed),
        1 => Just(Kind::Refused),
        1 => Just(Kind::Unsubscribed),
        1 => Just(Kind::Lost),
    ];
    let trouble = (time, 0..2 * PARTS, kind).prop_map(|(at, lasts, kind)| Trouble {
        at,
        lasts: match kind {
            Kind::Misses(..) => lasts % (PARTS / 3),
            _ => lasts,
        },
        kind,
    });
    let short = || 0..3_u16;
    let slow = (0..6_u64, 0..PARTS / 2);
    let lags =
        (short(), short(), short(), short(), slow).prop_map(|(commit, delete, get, list, slow)| {
            Lags {
                commit,
                delete,
                get,
                list,
                slow,
            }
        });
    (
        prop::collection::vec(lags, 2..=3),
        prop::collection::vec(step, 2..24),
        prop::collection::vec(trouble, 0..4),
        select(vec![4, 20, 50]),
    )
        .prop_map(|(lags, steps, troubles, every)| Script {
            lags,
            steps,
            troubles,
            every,
        })
}

fn time(parts: u16) -> Duration {
    BOUND * u32::from(parts) / u32::from(PARTS)
}

/// What was made, taken away and read.
#[derive(Clone, Default)]
struct History(Arc<Mutex<Events>>);

#[derive(Default)]
struct Events {
    /// Steps of the history: of two at one moment it tells which was the first.
    now: u64,
    /// When each value was made, by its number.
    made: Vec<Option<u64>>,
    taken: Vec<Taken>,
    violation: Option<String>,
}

struct Taken {
    what: String,
    /// None is every key.
    key: Option<&'static str>,
    began: u64,
    ended: Instant,
}

impl Events {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn number(&mut self, made: Option<u64>) -> usize {
        self.made.push(made);
        self.made.len() - 1
    }
}

impl History {
    fn events(&self) -> MutexGuard<'_, Events> {
        self.0.lock().unwrap()
    }

    /// A fetcher that takes this long, whose value is made when it begins.
    async fn fetch(self, takes: Duration) -> Result<Fetched, Error> {
        let number = {
            let mut events = self.events();
            let now = events.tick();
            events.number(Some(now))
        };
        sleep(takes).await;
        Ok(Fetched::bytes(number.to_string()))
    }

    async fn takes(
        &self,
        what: String,
        key: Option<&'static str>,
        call: impl Future<Output = larder::Result<()>>,
    ) {
        let began = self.events().tick();
        if call.await.is_ok() {
            let ended = Instant::now();
            self.events().taken.push(Taken {
                what,
                key,
                began,
                ended,
            });
        }
    }

    fn read(&self, process: usize, key: &'static str, began: Instant, value: &str, whence: &str) {
        let mut events = self.events();
        let number: usize = value.parse().expect("a number");
        let Some(made) = events.made[number] else {
            return;
        };
        let is_late = |taken: &&Taken| {
            taken.key.is_none_or(|taken| taken == key)
                && made < taken.began
                && taken.ended + BOUND + TIMERS < began
        };
        let Some(taken) = events.taken.iter().find(is_late) else {
            return;
        };
        let violation = format!(
            "process {process} read {key} ({value}, {whence}) {:?} after {} had returned",
            began - taken.ended,
            taken.what,
        );
        events.violation.get_or_insert(violation);
    }
}

struct Process {
    number: usize,
    cache: Cache,
    private: larder::Memory,
    history: History,
}

impl Process {
    async fn start(world: &World, number: usize, lags: &Lags, history: &History) -> Self {
        let shared: Faulty<Line> = Faulty::new(world.line.clone());
        let on = |op| shared.faults().on(op);
        let (nth, slow) = lags.slow;
        on(Op::Commit).nth(nth + 1).inject(Fault::Delay(time(slow)));
        on(Op::Commit).always(Fault::Delay(time(lags.commit)));
        on(Op::Delete).always(Fault::Delay(time(lags.delete)));
        on(Op::Get).always(Fault::Delay(time(lags.get)));
        on(Op::List).always(Fault::Delay(time(lags.list)));
        let private = world.memory();
        let shared = Tier::new(shared).shared().timeout(10 * BOUND);
        let builder = world.builder().tier(private.clone()).tier(shared);
        let cache = builder.bus(world.line.clone()).build().unwrap();
        sleep(BOUND / 2).await;
        Self {
            number,
            cache,
            private,
            history: history.clone(),
        }
    }

    async fn step(&self, step: &Step) {
        let Self { cache, history, .. } = self;
        let began = Instant::now();
        let what = |what| format!("{what} by process {} at {began:?}", self.number);
        let key = step.key;
        let request = match step.does {
            Does::Read(takes) => {
                let fetch = history.clone().fetch(time(takes));
                cache.get_or_fetch(key, move |_| fetch).await
            }
            Does::Refresh(takes) => {
                let fetch = history.clone().fetch(time(takes));
                cache.refresh(key, move |_| fetch).await
            }
            Does::Insert => {
                let number = history.events().number(None);
                let _ = cache
                    .insert(key, number.to_string(), larder::Draft::new())
                    .await;
                let mut events = history.events();
                let now = events.tick();
                events.made[number] = Some(now);
                return;
            }
            Does::Delete => {
                history
                    .takes(what("a delete"), Some(key), cache.delete(key))
                    .await;
                return;
            }
            Does::Clear => {
                history.takes(what("a clear"), None, cache.clear()).await;
                return;
            }
            Does::Evict => {
                let name = larder::Key::new(key).unwrap();
                let _ = self.private.delete(name, None).await;
                return;
            }
        };
        if let Ok(response) = request {
            self.tell(key, began, response).await;
        }
    }

    /// Looks at every key now and then.
    async fn looks(&self, every: Duration, until: Instant) {
        while Instant::now() < until {
            for key in KEYS {
                let began = Instant::now();
                let response = self.cache.get(key).await.unwrap();
                if !response.is_absent() {
                    self.tell(key, began, response).await;
                }
            }
            sleep(every).await;
        }
    }

    async fn tell(&self, key: &'static str, began: Instant, response: larder::Response) {
        let whence = response.status().to_string();
        let value = text(response).await;
        self.history.read(self.number, key, began, &value, &whence);
    }
}

/// What becomes of messages, by the time.
fn fates(world: &World, begins: Instant, troubles: &[Trouble]) {
    let publishers = publishers(world);
    let troubles = troubles.to_vec();
    let rule = move |ear: usize, message: &Message| {
        let now = Instant::now();
        let lasts = |trouble: &&Trouble| {
            let from = begins + time(trouble.at);
            (from..from + time(trouble.lasts)).contains(&now)
        };
        let is_of = |who: usize| publishers.get(who) == Some(&message.publisher);
        let fate = |trouble: &Trouble| match trouble.kind {
            Kind::Deaf(deaf) if deaf == ear => Some(Fate::Dropped),
            Kind::Misses(deaf, who) if deaf == ear && is_of(who) => Some(Fate::Dropped),
            Kind::Late(late) if late == ear => Some(Fate::Late(10 * BOUND)),
            Kind::Twice => Some(Fate::Twice),
            Kind::Mixed if message.sequence.is_multiple_of(2) => Some(Fate::Late(BOUND / 20)),
            _ => None,
        };
        let mut fates = troubles.iter().filter(lasts).filter_map(fate);
        fates.next().unwrap_or_default()
    };
    world.line.rule(rule);
}

async fn trouble(line: &Line, trouble: &Trouble, begins: Instant) {
    sleep_until(begins + time(trouble.at)).await;
    match trouble.kind {
        Kind::Refused => {
            line.publishing(Way::Refused);
            sleep(time(trouble.lasts)).await;
            line.publishing(Way::Open);
        }
        Kind::Unsubscribed => {
            line.subscribing(Way::Refused);
            line.hang_up();
            sleep(time(trouble.lasts)).await;
            line.subscribing(Way::Open);
        }
        Kind::Lost => line.lose(),
        _ => {}
    }
}

async fn run(script: &Script) -> Result<(), String> {
    let (world, history) = (World::new(), History::default());
    let mut processes = Vec::new();
    for (number, lags) in script.lags.iter().enumerate() {
        processes.push(Process::start(&world, number, lags, &history).await);
    }
    sleep(BOUND).await;
    let begins = Instant::now();
    fates(&world, begins, &script.troubles);
    let last = script.steps.iter().map(|step| step.at).max().unwrap_or(0);
    // A clear takes the bound, and so does what follows it.
    let until = begins + time(last) + 4 * BOUND;
    let looks = processes
        .iter()
        .map(|process| process.looks(time(script.every), until));
    let steps = script.steps.iter().map(async |step| {
        sleep_until(begins + time(step.at)).await;
        processes[step.process % processes.len()].step(step).await;
    });
    let troubles = script
        .troubles
        .iter()
        .map(|one| trouble(&world.line, one, begins));
    tokio::join!(join_all(looks), join_all(steps), join_all(troubles));
    let violation = history.events().violation.take();
    violation.map_or(Ok(()), Err)
}

fn holds(script: &Script) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(run(script)).map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn s85_nothing_is_served_past_the_bound_whatever_is_drawn(script in script()) {
        holds(&script)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "takes minutes"]
    fn long_s85_nothing_is_served_past_the_bound_whatever_is_drawn(script in script()) {
        holds(&script)?;
    }
}
