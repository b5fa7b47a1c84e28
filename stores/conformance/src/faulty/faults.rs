//! Which fault strikes when.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use larder_store::{Error, ErrorKind, Reply, Result};
use tokio::sync::watch;

/// An operation of a store, a writer or a body that a [`Fault`] can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Op {
    /// `Store::get_stream`.
    Get,
    /// Reading one chunk of a body.
    Body,
    /// `Store::set_with_writer`.
    Set,
    /// `Writer::write`.
    Write,
    /// `Writer::commit`.
    Commit,
    /// `Writer::abort`.
    Abort,
    /// `Store::delete`.
    Delete,
    /// `Store::stat`.
    Stat,
    /// `Store::fence`.
    Fence,
    /// `Touch::touch`.
    Touch,
    /// `List::list`: strikes before the first key.
    List,
    /// `Store::close`.
    Close,
    /// `Lease::acquire`.
    Acquire,
    /// `Lease::renew`.
    Renew,
    /// `Lease::release`.
    Release,
    /// `Bus::publish`.
    Publish,
    /// `Bus::subscribe`.
    Subscribe,
    /// A delivery of the bus, on its way to one subscriber. One that stalls keeps all later ones
    /// waiting.
    Deliver,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The operation is not done, and fails.
    Fail(ErrorKind),
    /// The operation is done, and then said to have failed, like an answer that was lost.
    FailAfter(ErrorKind),
    /// The operation waits, for ever or until [`Faults::release`], and is done then.
    Stall,
    /// The operation is done, but its answer waits, for ever or until [`Faults::release`].
    StallAfter,
    /// The operation is done this much later, by tokio's clock.
    Delay(Duration),
    /// For [`Op::Get`]: the body breaks off after so many bytes. For [`Op::Body`]: after so many
    /// bytes of the chunk. Its length is still the whole one, so that the reader is to find out.
    Shorten(u64),
    /// The operation is not done, and panics when its reply is polled.
    Panic,
    /// For [`Op::Deliver`]: it never arrives, and nobody knows.
    Skip,
    /// For [`Op::Deliver`]: it arrives twice.
    Repeat,
    /// For [`Op::Deliver`]: it arrives after so many later ones, at least one, or before the end of
    /// the stream.
    Behind(u64),
    /// For [`Op::Deliver`]: [`Lost`](larder_store::Delivery::Lost) arrives in its place.
    Lose,
}

/// The faults of a [`Faulty`](super::Faulty) store: a handle, whose clones are the same.
///
/// The faults of one operation are tried in the order in which they were made; the first that
/// strikes is the one.
#[derive(Clone, Default)]
pub struct Faults(Arc<Shared>);

#[derive(Default)]
struct Shared {
    plan: Mutex<Plan>,
    stalls: watch::Sender<Stalls>,
}

#[derive(Default)]
struct Plan {
    rules: Vec<Rule>,
    calls: HashMap<Op, u64>,
}

struct Rule {
    op: Op,
    key: Option<String>,
    /// Strikes from this call on, 1 being the next; `None` is always.
    nth: Option<u64>,
    /// How often it strikes then.
    times: u64,
    fault: Fault,
}

#[derive(Default)]
struct Stalls {
    releases: u64,
    stalled: usize,
}

/// A [`Fault`] being described; see [`Faults::on`].
#[must_use = "nothing goes wrong before `inject`"]
#[derive(Debug)]
pub struct When<'a> {
    faults: &'a Faults,
    op: Op,
    key: Option<String>,
    nth: Option<u64>,
    times: u64,
}

impl Faults {
    /// Begins to describe a fault of this operation.
    ///
    /// ```
    /// use larder_conformance::{Fault, Faults, Op};
    /// use larder_store::ErrorKind;
    ///
    /// let faults = Faults::default();
    /// faults.on(Op::Commit).nth(2).inject(Fault::Stall);
    /// faults.on(Op::Get).key("a").always(Fault::Fail(ErrorKind::Unavailable));
    /// assert_eq!(faults.calls(Op::Get), 0);
    /// ```
    pub fn on(&self, op: Op) -> When<'_> {
        When {
            faults: self,
            op,
            key: None,
            nth: Some(1),
            times: 1,
        }
    }

    /// Forgets all faults. What is stalled stays so; see [`release`](Self::release).
    pub fn clear(&self) {
        self.plan().rules.clear();
    }

    /// Lets everything go on that is stalled now.
    pub fn release(&self) {
        self.0.stalls.send_modify(|stalls| stalls.releases += 1);
    }

    /// How often an operation was called since the store was wrapped, whatever became of it.
    pub fn calls(&self, op: Op) -> u64 {
        self.plan().calls.get(&op).copied().unwrap_or(0)
    }

    /// How many operations are stalled now. One that was dropped is not.
    pub fn stalled(&self) -> usize {
        self.0.stalls.borrow().stalled
    }

    /// Waits until at least so many operations are stalled. Cancel safe.
    pub async fn until_stalled(&self, count: usize) {
        let mut stalls = self.0.stalls.subscribe();
        // The sender lives in `self`.
        let _ = stalls.wait_for(|stalls| stalls.stalled >= count).await;
    }

    /// Counts a call, and tells what strikes it.
    pub(super) fn strike(&self, op: Op, key: &str) -> Option<Strike> {
        let mut plan = self.plan();
        *plan.calls.entry(op).or_default() += 1;
        let mut found = None;
        // Every rule counts the call, also those behind the one that strikes.
        plan.rules.retain_mut(|rule| {
            if rule.op != op || rule.key.as_deref().is_some_and(|only| only != key) {
                return true;
            }
            match &mut rule.nth {
                None => {
                    found.get_or_insert(rule.fault);
                    true
                }
                Some(left @ 2..) => {
                    *left -= 1;
                    true
                }
                Some(_) => {
                    found.get_or_insert(rule.fault);
                    rule.times -= 1;
                    rule.times > 0
                }
            }
        });
        found.map(|fault| Strike {
            fault,
            op,
            faults: self.clone(),
        })
    }

    /// Whether any fault may still strike this operation.
    pub(super) fn expects(&self, op: Op) -> bool {
        self.plan().rules.iter().any(|rule| rule.op == op)
    }

    async fn stall(&self) {
        let mut stalls = self.0.stalls.subscribe();
        let now = stalls.borrow().releases;
        let _counted = Stalled::new(self);
        let _ = stalls.wait_for(|stalls| stalls.releases > now).await;
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        (self.0.plan.lock()).unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

impl When<'_> {
    /// Only on this key.
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Not at the next call but at the `nth` from now on; 1 is the next.
    ///
    /// # Panics
    ///
    /// When it is zero.
    pub fn nth(mut self, nth: u64) -> Self {
        assert!(nth > 0, "calls are counted from one");
        self.nth = Some(nth);
        self
    }

    /// Not once but at so many calls in a row.
    ///
    /// # Panics
    ///
    /// When it is zero.
    pub fn times(mut self, times: u64) -> Self {
        assert!(times > 0, "a fault strikes at least once");
        self.times = times;
        self
    }

    /// Strikes at the call that was named, or else at the next.
    ///
    /// # Panics
    ///
    /// When the fault makes no sense for the operation: only bodies can be shortened, only
    /// deliveries mixed up, and deliveries cannot fail.
    pub fn inject(self, fault: Fault) {
        let makes_sense = match fault {
            Fault::Shorten(_) => matches!(self.op, Op::Get | Op::Body),
            Fault::Skip | Fault::Repeat | Fault::Behind(_) | Fault::Lose => self.op == Op::Deliver,
            Fault::Fail(_) | Fault::FailAfter(_) | Fault::StallAfter => self.op != Op::Deliver,
            Fault::Stall | Fault::Delay(_) | Fault::Panic => true,
        };
        assert!(makes_sense, "no {:?} can meet with {fault:?}", self.op);
        let rule = Rule {
            op: self.op,
            key: self.key,
            nth: self.nth,
            times: self.times,
            fault,
        };
        self.faults.plan().rules.push(rule);
    }

    /// Strikes at every call, until [`Faults::clear`].
    ///
    /// # Panics
    ///
    /// As [`inject`](Self::inject) does.
    pub fn always(mut self, fault: Fault) {
        self.nth = None;
        self.inject(fault);
    }
}

/// A fault that strikes a call.
pub(super) struct Strike {
    pub(super) fault: Fault,
    op: Op,
    faults: Faults,
}

impl Strike {
    /// Does the operation as the fault lets it.
    pub(super) async fn around<'a, T: Send + 'a>(
        self,
        operation: impl FnOnce() -> Reply<'a, T> + Send + 'a,
    ) -> Result<T> {
        self.before().await?;
        let result = operation().await;
        self.after().await?;
        result
    }

    pub(super) async fn before(&self) -> Result<()> {
        match self.fault {
            Fault::Fail(kind) => return Err(self.error(kind)),
            Fault::Stall => self.faults.stall().await,
            Fault::Delay(time) => tokio::time::sleep(time).await,
            Fault::Panic => panic!("injected into {:?}", self.op),
            _ => {}
        }
        Ok(())
    }

    pub(super) async fn after(&self) -> Result<()> {
        match self.fault {
            Fault::FailAfter(kind) => return Err(self.error(kind)),
            Fault::StallAfter => self.faults.stall().await,
            _ => {}
        }
        Ok(())
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, format!("injected into {:?}", self.op))
    }
}

/// Counts a stalled operation, until it goes on or is dropped.
struct Stalled<'a>(&'a Faults);

impl<'a> Stalled<'a> {
    fn new(faults: &'a Faults) -> Self {
        (faults.0.stalls).send_modify(|stalls| stalls.stalled += 1);
        Self(faults)
    }
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        (self.0.0.stalls).send_modify(|stalls| stalls.stalled -= 1);
    }
}
