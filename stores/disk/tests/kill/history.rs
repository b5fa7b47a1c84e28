//! What the child told, and what may be found by it.

use std::collections::HashMap;

use crate::load::BEAT;

/// What a change makes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Absent,
    /// An object of this stamp, with the body of this version.
    Object {
        stamp: u64,
        body: u64,
    },
}

/// What is known of one key.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// What it surely was at last, or one of these where a change was not acknowledged.
    pub(crate) may_be: Vec<State>,
    /// Whether it may also be gone: what was acknowledged was new, and only just.
    pub(crate) may_be_lost: bool,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            may_be: vec![State::Absent],
            may_be_lost: false,
        }
    }
}

/// What was told of all keys.
#[derive(Debug, Default)]
pub(crate) struct History {
    keys: HashMap<String, Known>,
    /// Changes that were acknowledged, in all.
    pub(crate) acknowledged: u64,
}

/// New objects may be lost when no more than so many beats of the child's heart came after: 5 ms are
/// promised, and a beat takes as long at least. Where the machine is busy the heart is slow as well.
const RECENT: usize = 10;

impl History {
    pub(crate) fn known(&self, name: &str) -> Known {
        self.keys.get(name).cloned().unwrap_or_default()
    }

    /// From now on it is known to be this.
    pub(crate) fn settle(&mut self, name: String, state: State) {
        let known = Known {
            may_be: vec![state],
            may_be_lost: false,
        };
        self.keys.insert(name, known);
    }

    /// Adds the lines of a child that was killed.
    pub(crate) fn add(&mut self, told: &[String]) {
        let mut begun: HashMap<String, State> = HashMap::new();
        let mut beats = told.iter().filter(|line| line.ends_with(BEAT)).count();
        for line in told {
            if line.ends_with(BEAT) {
                beats -= 1;
            }
            // The harness writes before the first line, on the same line.
            let Some(start) = ["begin ", "done ", "gone "]
                .iter()
                .find_map(|word| line.find(word))
            else {
                continue;
            };
            let words: Vec<_> = line[start..].split(' ').collect();
            let number = |index: usize| words[index].parse::<u64>().unwrap();
            let name = words[1].to_owned();
            match words[0] {
                "begin" => {
                    let stamp = number(2);
                    let state = match words[3] {
                        "delete" => State::Absent,
                        "touch" => State::Object {
                            stamp,
                            body: number(4),
                        },
                        _ => State::Object { stamp, body: stamp },
                    };
                    // Until it is acknowledged it may be this as well.
                    let known = self.keys.entry(name.clone()).or_default();
                    known.may_be.push(state);
                    begun.insert(name, state);
                }
                // What was to be touched was evicted: nothing else takes it away.
                "gone" => drop(begun.insert(name, State::Absent)),
                _ => {
                    let state = begun.remove(&name).expect("what is done was begun");
                    self.acknowledge(name, state, beats <= RECENT);
                }
            }
        }
    }

    fn acknowledge(&mut self, name: String, state: State, recent: bool) {
        self.acknowledged += 1;
        let before = self.known(&name);
        let is_new = before.may_be.contains(&State::Absent);
        let touched = matches!(state, State::Object { stamp, body } if stamp != body);
        let known = Known {
            may_be: vec![state],
            may_be_lost: recent && is_new && !touched,
        };
        self.keys.insert(name, known);
    }
}
