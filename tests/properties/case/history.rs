//! What happened, and what may not have.
//!
//! Every value is made once, by a write or a fetch; it carries its number in each of its bytes and
//! in its entity tag, so that bytes and metadata that do not belong together are seen. Every step
//! of the history has a moment, a count of steps. A value may not be read if something replaced
//! it, began after the value was made, and had returned before the read began. A fetched value is
//! made when its fetch begins: one begun before a delete may not come back after it. When the
//! origin says "not modified" of a value, it is made again.
//!
//! Where two caches share a tier, what one of them replaced the other may read until the bound of
//! their bus is over, and for as long as it likes where the shared tier did not take the change.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use larder::{ByteRange, EntityTag, Header};
use tokio::time::{Duration, Instant};

use super::ops::Part;

#[derive(Default)]
pub(crate) struct History(Mutex<Events>);

#[derive(Default)]
struct Events {
    now: u64,
    values: HashMap<u64, Value>,
    replacements: Vec<Replacement>,
    violations: Vec<String>,
}

struct Value {
    key: u8,
    /// None is an absence.
    len: Option<usize>,
    /// When it was there to be read: a fetched one when its fetch began, a written one when the
    /// write had returned, if it has.
    made: Option<u64>,
    /// When the fetch that brought it, or confirmed it last, was sure to have answered.
    opened: Option<u64>,
    standing: Standing,
}

/// Who may read a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Anyone,
    /// Those who wait for its fetch: it may not be stored.
    Unstored,
    /// Those who wait for its fetch, and they not to the end: its source breaks.
    Broken,
    /// Nobody: its commit has not begun, and never will if its writer is given up.
    Nobody,
}

struct Replacement {
    process: usize,
    /// None is every key.
    key: Option<u8>,
    what: &'static str,
    began: u64,
    ended: Option<u64>,
    /// When it binds the other process.
    elsewhere: Option<Instant>,
}

/// The bound of the bus, by default, and what chained timers may be late.
const BOUND: Duration = Duration::from_millis(5_010);

/// A read that gave an answer.
#[derive(Clone, Copy)]
pub(crate) struct Read {
    pub(crate) process: usize,
    pub(crate) key: u8,
    pub(crate) began: u64,
    pub(crate) at: Instant,
    pub(crate) part: Part,
    /// From a tier.
    pub(crate) hit: bool,
    /// The number in its entity tag.
    pub(crate) number: Option<u64>,
    /// Where its bytes begin in the object, as far as the answer told.
    pub(crate) start: Option<u64>,
}

impl History {
    fn events(&self) -> MutexGuard<'_, Events> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The moment, which is passed by asking.
    pub(crate) fn tick(&self) -> u64 {
        let mut events = self.events();
        events.now += 1;
        events.now
    }

    /// A value that is to be written, which nobody may read before its commit begins; its number.
    pub(crate) fn writes(&self, key: u8, len: usize) -> u64 {
        self.value(key, Some(len), Standing::Nobody, false)
    }

    /// A value whose fetch begins, `None` an absence; its number.
    pub(crate) fn fetches(&self, key: u8, len: Option<usize>, standing: Standing) -> u64 {
        self.value(key, len, standing, true)
    }

    fn value(&self, key: u8, len: Option<usize>, standing: Standing, made: bool) -> u64 {
        let mut events = self.events();
        events.now += 1;
        let number = events.now;
        let value = Value {
            key,
            len,
            made: made.then_some(number),
            opened: None,
            standing,
        };
        events.values.insert(number, value);
        number
    }

    /// A write of a value has returned.
    pub(crate) fn written(&self, number: u64) {
        let now = self.tick();
        if let Some(value) = self.events().values.get_mut(&number) {
            value.made = Some(now);
        }
    }

    /// The origin says that a value is still right, in a fetch that begins now.
    pub(crate) fn confirmed(&self, number: u64) {
        let now = self.tick();
        let mut events = self.events();
        let Some(value) = events.values.get_mut(&number) else {
            return;
        };
        value.made = value.made.map(|_| now);
        // A read that comes now may share this fetch, which has not answered.
        value.opened = None;
    }

    /// The fetch of a value has answered, since more of its body is asked for.
    pub(crate) fn opened(&self, number: u64) {
        let now = self.tick();
        if let Some(value) = self.events().values.get_mut(&number) {
            value.opened.get_or_insert(now);
        }
    }

    /// Whether the fetch of a value had answered before a read of this moment.
    pub(crate) fn had_opened(&self, number: u64, began: u64) -> bool {
        let events = self.events();
        let opened = events.values.get(&number).and_then(|value| value.opened);
        opened.is_some_and(|opened| opened < began)
    }

    /// Whether some value of a key so far is too short for a part.
    pub(crate) fn may_be_too_short(&self, key: u8, range: ByteRange) -> bool {
        let events = self.events();
        let mut values = events.values.values().filter(|value| value.key == key);
        let does_not_fit = |len| range.resolve(len as u64).is_err();
        values.any(|value| value.len.is_some_and(does_not_fit))
    }

    /// The commit of a value begins.
    pub(crate) fn commits(&self, number: u64) {
        if let Some(value) = self.events().values.get_mut(&number) {
            value.standing = Standing::Anyone;
        }
    }

    /// Something that replaces what is there begins; its place.
    pub(crate) fn replaces(&self, process: usize, key: Option<u8>, what: &'static str) -> usize {
        let began = self.tick();
        let mut events = self.events();
        events.replacements.push(Replacement {
            process,
            key,
            what,
            began,
            ended: None,
            elsewhere: None,
        });
        events.replacements.len() - 1
    }

    /// It has returned; `shared` where it is acknowledged and the shared tier took it, too.
    pub(crate) fn replaced(&self, place: usize, shared: bool) {
        let now = self.tick();
        let replacement = &mut self.events().replacements[place];
        replacement.ended = Some(now);
        replacement.elsewhere = shared.then(|| Instant::now() + BOUND);
    }

    /// A read gave these bytes and came to their end.
    pub(crate) fn read(&self, read: Read, bytes: &[u8]) {
        self.judge(|events| events.body(read, bytes));
    }

    /// A read, or a look at the metadata alone, gave the metadata of this value.
    pub(crate) fn found(&self, read: Read) {
        self.judge(|events| events.known(read).map(drop));
    }

    fn judge(&self, check: impl FnOnce(&Events) -> Result<(), String>) {
        let mut events = self.events();
        if let Err(violation) = check(&events) {
            events.violations.push(violation);
        }
    }

    pub(crate) fn violation(&self, what: String) {
        self.events().violations.push(what);
    }

    pub(crate) fn verdict(&self) -> Result<(), String> {
        let events = self.events();
        if events.violations.is_empty() {
            Ok(())
        } else {
            Err(events.violations.join("\n"))
        }
    }
}

impl Events {
    fn body(&self, read: Read, bytes: &[u8]) -> Result<(), String> {
        let Read { part, start, .. } = read;
        let (number, value) = self.known(read)?;
        let len = value
            .len
            .ok_or_else(|| format!("value {number} is an absence and was read with a body"))?;
        let asked = (part.range().and_then(|range| range.resolve(len as u64)))
            .map_err(|error| format!("value {number} was read by {part:?}, but {error}"))?;
        if start.is_some_and(|start| start != asked.start) {
            return Err(format!(
                "value {number}: {part:?} was said to begin at {start:?}"
            ));
        }
        if bytes.len() as u64 != asked.end - asked.start || !is_body(number, asked.start, bytes) {
            return Err(format!(
                "value {number} is torn: {} bytes for {part:?} of {len}",
                bytes.len()
            ));
        }
        if value.standing == Standing::Broken && matches!(part, Part::Whole) {
            return Err(format!(
                "value {number} came to a clean end, but its source broke"
            ));
        }
        Ok(())
    }

    /// The value that was read, if it may be.
    fn known(&self, read: Read) -> Result<(u64, &Value), String> {
        let Read { key, began, .. } = read;
        let number = read
            .number
            .ok_or_else(|| format!("key {key} has an object without a tag"))?;
        let value = self
            .values
            .get(&number)
            .ok_or_else(|| format!("value {number}, which nobody wrote, under key {key}"))?;
        if value.key != key {
            let other = value.key;
            return Err(format!("value {number} of key {other} under key {key}"));
        }
        match value.standing {
            Standing::Nobody => {
                return Err(format!("value {number} was read, but never committed"));
            }
            Standing::Unstored | Standing::Broken if read.hit => {
                let standing = value.standing;
                return Err(format!("value {number} was stored, but is {standing:?}"));
            }
            _ => {}
        }
        match self.replacement(value, read) {
            Some(by) => Err(format!(
                "value {number}, made at {:?}, was read at {began} in {}, though a {} from {} to \
                 {:?} in {} replaced it",
                value.made, read.process, by.what, by.began, by.ended, by.process
            )),
            None => Ok((number, value)),
        }
    }

    /// What replaced a value before a read of this moment, if anything did.
    fn replacement(&self, value: &Value, read: Read) -> Option<&Replacement> {
        let made = value.made?;
        self.replacements.iter().find(|replacement| {
            let binds = if replacement.process == read.process {
                replacement.ended.is_some_and(|ended| ended < read.began)
            } else {
                replacement.elsewhere.is_some_and(|from| from < read.at)
            };
            (replacement.key).is_none_or(|key| key == value.key)
                && made < replacement.began
                && binds
        })
    }
}

/// The bytes of a value: its number, over and over.
pub(crate) fn body(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().repeat(len.div_ceil(8));
    bytes.truncate(len);
    bytes
}

/// Whether these are the bytes of a value, from there on.
fn is_body(number: u64, start: u64, bytes: &[u8]) -> bool {
    let phase = usize::try_from(start % 8).unwrap_or(0);
    body(number, phase + bytes.len()).ends_with(bytes)
}

/// The entity tag of a value.
pub(crate) fn tag(number: u64) -> larder::Result<EntityTag> {
    EntityTag::strong(format!("v{number}"))
}

/// The number of the value that a header belongs to.
pub(crate) fn number(header: &Header) -> Option<u64> {
    header
        .etag
        .as_ref()?
        .opaque()
        .strip_prefix('v')?
        .parse()
        .ok()
}
