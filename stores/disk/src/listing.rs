//! Listing the keys.
//
// Invariants:
// 1. When a list begins, the extent of all segments is fixed. Of each object that is there the
//    newest record within the extent is the one that the index points to, until the object changes;
//    from then on it is none within.
// 2. The records within are walked in the order of their numbers, so the newest of a hash comes
//    last. A key is given at the record that the index points to, or else at the first one after
//    the index has left the extent, which `left` remembers: each once, whatever happens.
// 3. Segments that are walked stay open though they are removed meanwhile.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    vec,
};

use futures_core::Stream;
use larder_store::{Error, ErrorKind, KeyBuf, Keys, Result};
use tokio::task::coop::poll_proceed;

use crate::{
    clock::{self, Worker},
    flusher::io,
    log::closed,
    segment::{Queue, Segment},
    trail::{Step, Trail},
    volume::Volume,
};

/// The keys that begin with `prefix`.
pub(crate) fn list(volume: &Arc<Volume>, prefix: &str) -> Keys {
    Box::pin(Listing {
        volume: Arc::downgrade(volume),
        batch: Vec::new().into_iter(),
        state: State::Fresh(prefix.into()),
    })
}

struct Listing {
    /// A list that nobody reads on does not keep the store.
    volume: Weak<Volume>,
    batch: vec::IntoIter<KeyBuf>,
    state: State,
}

enum State {
    Fresh(Box<str>),
    Here(Box<Walk>),
    /// A thread that may wait for the disk has the walk.
    Away(Hop),
    Ended,
}

type Hop = Pin<Box<dyn Future<Output = Result<(Box<Walk>, Vec<KeyBuf>)>> + Send>>;

/// How far a list has come.
struct Walk {
    prefix: Box<str>,
    /// By slot: the number of the segment that was there, and where its records ended.
    extent: HashMap<u16, (u64, u64)>,
    /// One for each queue: within it the numbers of records grow.
    trails: [Trail; 2],
    /// The hashes whose keys were given after the index had left the extent.
    left: HashSet<u64>,
    is_done: bool,
}

/// A step gives at most so many keys ...
const KEYS_MAX: usize = 1024;
/// ... and looks at no more than so many records.
const RECORDS_MAX: usize = 16 << 10;

impl Stream for Listing {
    type Item = Result<KeyBuf>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let step = ready!(poll_proceed(cx));
        let key = loop {
            if let Some(key) = self.batch.next() {
                break Some(Ok(key));
            }
            self.state = match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => break None,
                State::Here(walk) if walk.is_done => break None,
                State::Here(walk) => State::Away(Box::pin(hop(self.volume.clone(), Ok(walk)))),
                State::Fresh(prefix) => {
                    State::Away(Box::pin(hop(self.volume.clone(), Err(prefix))))
                }
                State::Away(mut hop) => match hop.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.state = State::Away(hop);
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(error)) => break Some(Err(error)),
                    Poll::Ready(Ok((walk, keys))) => {
                        self.batch = keys.into_iter();
                        State::Here(walk)
                    }
                },
            };
        };
        step.made_progress();
        Poll::Ready(key)
    }
}

/// Has a thread that may wait begin the walk, or go on with it.
async fn hop(
    volume: Weak<Volume>,
    walk: Result<Box<Walk>, Box<str>>,
) -> Result<(Box<Walk>, Vec<KeyBuf>)> {
    let volume = volume.upgrade().ok_or_else(closed)?;
    volume.check_open()?;
    let ended = |error| {
        let message = "the runtime that reads for the store has ended";
        Error::with_source(ErrorKind::Unavailable, message, error)
    };
    let permit = Arc::clone(&volume.cold).acquire_owned().await;
    let permit = permit.map_err(|_| closed())?;
    let runtime = volume.runtime.clone();
    let step = runtime.spawn_blocking(move || {
        let _permit = permit;
        let mut walk = walk.unwrap_or_else(|prefix| Box::new(Walk::begin(&volume, prefix)));
        let keys = walk.step(&volume, RECORDS_MAX)?;
        Ok((walk, keys))
    });
    let step = clock::held(runtime, Worker::Job, step);
    step.await.map_err(ended)?
}

impl Walk {
    fn begin(volume: &Volume, prefix: Box<str>) -> Self {
        let all = volume.log.extent(&volume.segments);
        let extent = (all.iter()).map(|(segment, end)| (segment.slot, (segment.id, *end)));
        let extent = extent.collect();
        let trails = [Queue::Probation, Queue::Main].map(|queue| {
            let of_it = |(segment, _): &&(Arc<Segment>, u64)| segment.queue == queue;
            let mut segments: Vec<_> = all.iter().filter(of_it).cloned().collect();
            segments.retain(|(segment, _)| segment.min_sequence() < u64::MAX);
            // The first is the last to be taken off.
            segments.sort_by_key(|(segment, _)| Reverse(segment.min_sequence()));
            Trail::new(segments)
        });
        Self {
            prefix,
            extent,
            trails,
            left: HashSet::new(),
            is_done: false,
        }
    }

    /// The keys that so many more records bring.
    fn step(&mut self, volume: &Volume, records_max: usize) -> Result<Vec<KeyBuf>> {
        let mut keys = Vec::new();
        for _ in 0..records_max {
            if keys.len() == KEYS_MAX {
                break;
            }
            let next = self.next(volume).map_err(|error| {
                volume.counters.io_errors.add(1);
                io("the keys cannot be read", error)
            })?;
            let Some(next) = next else {
                self.is_done = true;
                break;
            };
            let Self {
                prefix,
                extent,
                trails,
                left,
                ..
            } = self;
            if let Some(step) = trails[next].take()
                && step.key.starts_with(prefix.as_bytes())
                && gives(volume, extent, left, &step)
                && let Ok(key) = std::str::from_utf8(step.key)
                && let Ok(key) = KeyBuf::new(key)
            {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Which trail goes on: the one whose next record is the older.
    fn next(&mut self, volume: &Volume) -> std::io::Result<Option<usize>> {
        let mut oldest = None;
        for (trail, walked) in self.trails.iter_mut().enumerate() {
            if let Some(sequence) = walked.peek(&volume.log)?
                && oldest.is_none_or(|(other, _)| sequence < other)
            {
                oldest = Some((sequence, trail));
            }
        }
        Ok(oldest.map(|(_, trail)| trail))
    }
}

/// Whether the key is given at this record.
fn gives(
    volume: &Volume,
    extent: &HashMap<u16, (u64, u64)>,
    left: &mut HashSet<u64>,
    step: &Step<'_>,
) -> bool {
    let stripe = volume.index.read(step.entry.hash);
    let Some(word) = stripe.get(step.entry.hash) else {
        return false;
    };
    let place = word.place();
    let Some(segment) = volume.segments.get(place.slot).map(|segment| segment.id) else {
        return false;
    };
    drop(stripe);
    if segment == step.segment && place.offset == step.entry.offset {
        // It may have left and come back: a move can fail.
        return !left.contains(&step.entry.hash);
    }
    let is_within = (extent.get(&place.slot))
        .is_some_and(|&(there, end)| there == segment && place.start() < end);
    !is_within && left.insert(step.entry.hash)
}

#[cfg(test)]
mod tests {
    use larder_store::{Draft, Key, Version};

    use super::*;
    use crate::{
        Disk,
        index::Word,
        log::{Appended, How, Refusal},
        record::Record,
    };

    const NAMES: u64 = 24;

    /// Numbers that look random; the same for the same seed.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, below: u64) -> u64 {
            self.0 = (self.0)
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % below
        }
    }

    /// Writes an object again, in either queue.
    async fn write(volume: &Volume, id: u64, queue: Queue) -> Word {
        let name = format!("n/{id}");
        let key = Key::new(&name).unwrap();
        let value = vec![7; 9_000];
        let sum = Some(crc32c::crc32c(&value));
        let metadata = Draft::new().commit(9_000, Version(1), sum);
        let record = Record::object(volume.hash(key), key, &metadata, value.into());
        loop {
            let room = volume.log.room();
            let mut room = std::pin::pin!(room);
            room.as_mut().enable();
            let mut entry = volume.index.write(record.hash());
            let how = How::new(queue);
            match volume.log.append(&volume.segments, &record, how) {
                Ok(Appended { place, .. }) => {
                    let word = Word::new(place, false, false);
                    entry.put(word, None);
                    return word;
                }
                Err(Refusal::Wait) => {
                    drop(entry);
                    volume.room.wake();
                }
                Err(Refusal::Error(error)) => panic!("{error}"),
            }
            room.await;
        }
    }

    fn queue(dice: &mut Dice) -> Queue {
        [Queue::Probation, Queue::Main][usize::from(dice.roll(4) == 0)]
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_key_comes_once_whatever_moves_and_moves_back() {
        let expected: Vec<_> = {
            let names = (0..NAMES).map(|id| format!("n/{id}"));
            let mut names: Vec<_> = names.collect();
            names.sort_unstable();
            names
        };
        for seed in 0..12 {
            let folder = tempfile::tempdir().unwrap();
            let builder = Disk::builder(folder.path(), 64 << 20).segment_size(128 << 10);
            let disk = builder.open().await.unwrap();
            let (volume, mut dice) = (disk.volume(), Dice(seed));
            for id in (0..NAMES).chain((0..60).map(|id| id * 7 % NAMES)) {
                write(volume, id, queue(&mut dice)).await;
            }
            let mut walk = Walk::begin(volume, "n/".into());
            let (mut found, mut moves) = (Vec::new(), Vec::new());
            while !walk.is_done {
                let count = usize::try_from(1 + dice.roll(4)).unwrap();
                let keys = walk.step(volume, count).unwrap();
                found.extend(keys.into_iter().map(|key| key.to_string()));
                for _ in 0..dice.roll(3) {
                    let id = dice.roll(NAMES);
                    let hash = volume.hash(Key::new(&format!("n/{id}")).unwrap());
                    let before = volume.index.read(hash).get(hash).unwrap();
                    let moved = write(volume, id, queue(&mut dice)).await;
                    moves.push((hash, before, moved.place()));
                }
                if dice.roll(3) == 0
                    && let Some((hash, before, moved)) = moves.pop()
                {
                    // It could not be written.
                    let mut entry = volume.index.write(hash);
                    if entry.at(moved).is_some() {
                        entry.put(before, None);
                    }
                }
            }
            found.sort_unstable();
            assert_eq!(found, expected, "seed {seed}");
        }
    }
}
