//! What the child does until it is killed.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use larder_disk::{Builder, Disk};
use larder_store::{Draft, Result, Store};

use crate::common::{Random, body, draft, found, key, open_again};

/// A store, and how it is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    name: &'static str,
    capacity: u64,
    segment: u64,
    /// How long a task rests now and then, so that there is room for all.
    rest: Duration,
    /// Whether something may be evicted.
    pub(crate) evicts: bool,
}

/// Tasks that work at the same time, each on keys of its own.
const TASKS: u64 = 6;
const KEYS: u64 = 60;

impl Load {
    /// Segments are reclaimed all the time.
    pub(crate) const EVICTING: Self = Self {
        name: "evicting",
        capacity: 12 << 20,
        segment: 512 << 10,
        rest: Duration::ZERO,
        evicts: true,
    };
    /// More room than all rounds together can fill.
    pub(crate) const AMPLE: Self = Self {
        name: "ample",
        capacity: 8 << 30,
        segment: 16 << 20,
        rest: Duration::from_millis(2),
        evicts: false,
    };

    pub(crate) fn builder(&self, root: &Path) -> Builder {
        Disk::builder(root, self.capacity).segment_size(self.segment)
    }

    /// All keys that there may be.
    pub(crate) fn keys() -> impl Iterator<Item = String> {
        (0..TASKS * KEYS).map(|key| format!("k{key}"))
    }

    /// What the child is told, in one word.
    pub(crate) fn tell(&self, root: &Path, seed: u64, first_version: u64) -> String {
        format!(
            "{} {seed} {first_version} {}",
            self.name,
            root.to_str().unwrap()
        )
    }

    fn told(text: &str) -> (Self, u64, u64, PathBuf) {
        let mut words = text.splitn(4, ' ');
        let mut word = || words.next().unwrap();
        let load = if word() == Self::AMPLE.name {
            Self::AMPLE
        } else {
            Self::EVICTING
        };
        let (seed, first) = (word().parse().unwrap(), word().parse().unwrap());
        (load, seed, first, word().into())
    }
}

/// What the child says when the store is open ...
pub(crate) const READY: &str = "@ready";
/// ... and every 5 ms from then on.
pub(crate) const BEAT: &str = "@beat";

pub(crate) async fn work(told: &str) {
    let (load, seed, first_version, root) = Load::told(told);
    let mut random = Random::new(seed);
    // The noise that bodies are made of takes its time.
    drop(body("", 0, 1));
    let store = open_again(|| load.builder(&root)).await;
    say(READY);
    // A thread of its own, as those of the store are.
    std::thread::spawn(|| {
        loop {
            crate::pause(Duration::from_millis(5));
            say(BEAT);
        }
    });
    let tasks = (0..TASKS).map(|task| {
        let task = Task {
            store: store.clone(),
            load,
            random: Random::new(random.next()),
            keys: task * KEYS,
            version: first_version + task,
        };
        tokio::spawn(task.run())
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// In one call, so that lines of tasks are not mixed.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

struct Task {
    store: Disk,
    load: Load,
    random: Random,
    /// The first of its keys.
    keys: u64,
    version: u64,
}

impl Task {
    async fn run(mut self) {
        loop {
            let name = format!("k{}", self.keys + self.random.below(KEYS));
            self.version += TASKS;
            match self.random.below(20) {
                0..3 => self.delete(&name).await,
                3..5 => self.touch(&name).await,
                5..7 => {
                    let read = found(&self.store, &name).await;
                    read.unwrap();
                }
                _ => self.set(&name).await,
            }
            if self.random.below(4) == 0 && !self.load.rest.is_zero() {
                tokio::time::sleep(self.load.rest).await;
            }
        }
    }

    fn len(&mut self) -> usize {
        let most = match self.random.below(40) {
            0 => 3 << 20,
            1..4 => 300 << 10,
            4..15 => 20 << 10,
            _ => 1_000,
        };
        self.random.size_below(most)
    }

    /// Tells of a change before it begins, and again when it is acknowledged. Now and then its reply
    /// is dropped before it is there: then it is done or not done.
    async fn change(&mut self, name: &str, what: &str, change: impl Future<Output = Result<()>>) {
        let version = self.version;
        say(&format!("begin {name} {version} {what}"));
        let patience = match self.random.below(10) {
            0 => Duration::from_micros(self.random.below(2_000)),
            _ => Duration::from_secs(20),
        };
        match tokio::time::timeout(patience, change).await {
            Ok(Ok(())) => say(&format!("done {name} {version}")),
            // So many large ones at once have no room.
            Ok(Err(error)) => assert!(error.is_full() && self.load.evicts, "{error:?}"),
            Err(_) => assert!(patience < Duration::from_secs(20), "{what} hangs"),
        }
    }

    async fn set(&mut self, name: &str) {
        let (version, len, store) = (self.version, self.len(), self.store.clone());
        let fails = self.random.below(30) == 0;
        let set = async {
            let draft = stamped(version, version);
            let mut writer = store.set_with_writer(key(name), draft).await?;
            let bytes = body(name, version, len);
            for start in (0..len).step_by(256 << 10) {
                let chunk = bytes.slice(start..len.min(start + (256 << 10)));
                writer.write(chunk).await?;
            }
            if fails {
                drop(writer);
                std::future::pending::<()>().await;
            } else {
                assert!(writer.commit().await?.is_done());
            }
            Ok(())
        };
        if fails {
            let patience = Duration::from_millis(2);
            drop(tokio::time::timeout(patience, set).await);
        } else {
            self.change(name, &format!("set {len}"), set).await;
        }
    }

    async fn delete(&mut self, name: &str) {
        let store = self.store.clone();
        let delete = async {
            assert!(store.delete(key(name), None).await?.is_done());
            Ok(())
        };
        self.change(name, "delete", delete).await;
    }

    /// Only this task changes the key; but it may be evicted, and then nothing is touched.
    async fn touch(&mut self, name: &str) {
        let (version, store) = (self.version, self.store.clone());
        let Some(metadata) = store.stat(key(name)).await.unwrap() else {
            return;
        };
        let bytes = body_of(&metadata);
        let touch = async {
            let touch = store.as_touch().unwrap();
            let touched = touch.touch(key(name), stamped(version, bytes)).await?;
            if !touched.is_done() {
                say(&format!("gone {name} {version}"));
            }
            Ok(())
        };
        self.change(name, &format!("touch {bytes}"), touch).await;
    }
}

/// A draft of this version of the object, whose body is that of an earlier one.
fn stamped(version: u64, body: u64) -> Draft {
    draft(body).with(|header| {
        let stamp = bytes::Bytes::copy_from_slice(&version.to_be_bytes());
        header.attributes.push(("stamp".into(), stamp));
    })
}

/// Which version's body it has.
pub(crate) fn body_of(header: &larder_store::Header) -> u64 {
    crate::common::version_of(header)
}

/// Which version it is.
pub(crate) fn stamp_of(header: &larder_store::Header) -> u64 {
    let stamp = header.attribute("stamp").expect("it was set");
    u64::from_be_bytes(stamp[..].try_into().expect("it has eight bytes"))
}
