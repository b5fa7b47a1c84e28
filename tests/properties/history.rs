//! What happened, and what may not have.
//!
//! Every value is made once, by a write or a fetch, and carries its number in each of its bytes.
//! Every step of the history has a moment, a count of steps. A value may not be read if something
//! replaced it, began after the value was made, and had returned before the read began. A fetched
//! value is made when its fetch begins: one begun before a delete may not come back after it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

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
    len: usize,
    /// When it was there to be read: a fetched one when its fetch began, a written one when the
    /// write had returned, if it has.
    made: Option<u64>,
}

struct Replacement {
    /// None is every key.
    key: Option<u8>,
    what: &'static str,
    began: u64,
    ended: Option<u64>,
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

    /// A new value; its number.
    pub(crate) fn value(&self, key: u8, len: usize, fetched: bool) -> u64 {
        let mut events = self.events();
        events.now += 1;
        let (number, made) = (events.now, fetched.then_some(events.now));
        events.values.insert(number, Value { key, len, made });
        number
    }

    /// A write of a value has returned.
    pub(crate) fn written(&self, number: u64) {
        let now = self.tick();
        if let Some(value) = self.events().values.get_mut(&number) {
            value.made = Some(now);
        }
    }

    /// Something that replaces what is there begins; its place.
    pub(crate) fn replaces(&self, key: Option<u8>, what: &'static str) -> usize {
        let began = self.tick();
        let mut events = self.events();
        events.replacements.push(Replacement {
            key,
            what,
            began,
            ended: None,
        });
        events.replacements.len() - 1
    }

    /// It has returned.
    pub(crate) fn replaced(&self, place: usize) {
        let now = self.tick();
        self.events().replacements[place].ended = Some(now);
    }

    /// A read that began at this moment gave these bytes, to their end.
    pub(crate) fn read(&self, key: u8, began: u64, bytes: &[u8]) {
        let mut events = self.events();
        if let Some(violation) = events.check(key, began, bytes) {
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
    fn check(&self, key: u8, began: u64, bytes: &[u8]) -> Option<String> {
        // An empty object carries no number.
        let number = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let Some(value) = self.values.get(&number) else {
            return Some(format!("bytes that nobody wrote: {number}"));
        };
        if bytes != body(number, value.len) {
            return Some(format!(
                "value {number} is torn: {} of {} bytes",
                bytes.len(),
                value.len
            ));
        }
        if value.key != key {
            return Some(format!(
                "value {number} of key {} under key {key}",
                value.key
            ));
        }
        let made = value.made?;
        let stale = self.replacements.iter().find(|replacement| {
            replacement.key.is_none_or(|other| other == key)
                && made < replacement.began
                && replacement.ended.is_some_and(|ended| ended < began)
        })?;
        Some(format!(
            "value {number}, made at {made}, was read at {began}, though a {} from {} to {:?} \
             replaced it",
            stale.what, stale.began, stale.ended
        ))
    }
}

/// The bytes of a value: its number, over and over.
pub(crate) fn body(number: u64, len: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(len).collect()
}
