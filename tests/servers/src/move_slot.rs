//! A slot on its way from one node to another.

use crate::Server;

/// A slot that moves, step by step, so that a test can look between the steps.
///
/// While it moves, the old node answers for the keys that it still has, and sends clients to the
/// new one for all others with `ASK`. After [`finish`](Self::finish) it sends them there with
/// `MOVED`. A value that is dropped earlier leaves the slot in between.
#[derive(Debug)]
pub struct SlotMove<'a> {
    nodes: &'a [Server],
    slot: String,
    from: usize,
    to: usize,
}

impl<'a> SlotMove<'a> {
    pub(crate) fn begin(nodes: &'a [Server], slot: u16, from: usize, to: usize) -> Self {
        assert_ne!(from, to, "slot {slot} is there already");
        let this = Self {
            nodes,
            slot: slot.to_string(),
            from,
            to,
        };
        // The new node first: nobody is sent there before it is ready to answer.
        this.set(to, &["IMPORTING", &this.id(from)]);
        this.set(from, &["MIGRATING", &this.id(to)]);
        this
    }

    /// Moves at most so many keys, and gives how many it were.
    pub fn keys(&self, count: usize) -> usize {
        let from = &self.nodes[self.from];
        let count = count.to_string();
        let keys: Vec<Vec<u8>> = from.ask(&["CLUSTER", "GETKEYSINSLOT", &self.slot, &count]);
        if keys.is_empty() {
            return 0;
        }
        let to = self.nodes[self.to].address();
        redis::cmd("MIGRATE")
            .arg(to.ip().to_string())
            .arg(to.port())
            .arg("")
            .arg(0)
            .arg(crate::PATIENCE.as_millis().to_string())
            .arg("KEYS")
            .arg(&keys)
            .query::<()>(&mut from.connection())
            .expect("keys can be moved");
        keys.len()
    }

    /// Gives the slot to the new node. Its keys must have been moved: those left are lost.
    pub fn finish(self) {
        let to = self.id(self.to);
        // The new node first, as the manual wants it; then who lives, so that all agree at once.
        self.set(self.to, &["NODE", &to]);
        self.set(self.from, &["NODE", &to]);
        for (index, node) in self.nodes.iter().enumerate() {
            if index != self.to && index != self.from && node.lives() {
                self.set(index, &["NODE", &to]);
            }
        }
    }

    fn set(&self, node: usize, words: &[&str]) {
        let words = [&["CLUSTER", "SETSLOT", &self.slot], words].concat();
        self.nodes[node].ask::<()>(&words);
    }

    fn id(&self, node: usize) -> String {
        self.nodes[node].ask(&["CLUSTER", "MYID"])
    }
}
