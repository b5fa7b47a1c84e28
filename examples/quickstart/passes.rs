//! The seven passes: each shows one thing that the cache does.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use larder::BoxError;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use crate::{
    catalog::Catalog,
    origin::Origin,
    pantry::Pantry,
    report::Progress,
    tally::{Outcome, Tally},
};

#[derive(Clone, Copy)]
pub(crate) enum Pass {
    /// Every file once: all come from the origin, but for what an earlier run has left on disk.
    Cold,
    /// Every file again, several times: all come from memory, or from disk where that is full.
    Warm,
    /// One object larger than memory, by readers that join while it streams to the disk.
    Large,
    /// The same object again, several times: memory does not take it, so each read streams from the
    /// disk, and nothing is fetched or spilled.
    Again,
    /// A thousand tasks at once for one object that nobody has: one fetch.
    Stampede,
    /// Every file after its time: the origin says that it is unchanged.
    Stale,
    /// Every file after all was closed and opened again: all come from disk.
    Restart,
}

pub(crate) const ALL: &[Pass] = &[
    Pass::Cold,
    Pass::Warm,
    Pass::Large,
    Pass::Again,
    Pass::Stampede,
    Pass::Stale,
    Pass::Restart,
];

const TASKS: usize = 16;
const WARM_ROUNDS: usize = 5;
const LARGE_READERS: u64 = 8;
const AGAIN_ROUNDS: u64 = 4;
const STAMPEDE: usize = 1000;

/// What the passes share.
pub(crate) struct Run<'a> {
    catalog: Arc<Catalog>,
    origin: &'a Origin,
    pantry: Pantry,
    /// Whether the disk tier was empty at the start.
    fresh: bool,
    progress: Progress,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        catalog: Catalog,
        origin: &'a Origin,
        pantry: Pantry,
        progress: Progress,
    ) -> Self {
        Self {
            catalog: Arc::new(catalog),
            origin,
            fresh: pantry.found() == 0,
            pantry,
            progress,
        }
    }

    pub(crate) async fn pass(&mut self, pass: Pass) -> Result<Outcome, BoxError> {
        let before = self.origin.asked();
        let spilled = self.pantry.spilled();
        let start = Instant::now();
        let (name, result) = match pass {
            Pass::Cold => ("cold", self.files("cold", 1).await),
            Pass::Warm => ("warm", self.files("warm", WARM_ROUNDS).await),
            Pass::Large => ("large", self.large().await),
            Pass::Again => ("again", self.again().await),
            Pass::Stampede => ("stampede", self.stampede().await),
            Pass::Stale => {
                self.pantry.expire();
                ("stale", self.files("stale", 1).await)
            }
            Pass::Restart => {
                self.pantry.restart().await?;
                ("restart", self.files("restart", 1).await)
            }
        };
        self.progress.clear();
        let tally = result.map_err(|error| failed(name, error))?;
        let outcome = tally.finish(name, start.elapsed(), [before, self.origin.asked()]);
        self.check(pass, &outcome)?;
        let spilled = self.pantry.spilled() - spilled;
        if matches!(pass, Pass::Again) && spilled > 0 {
            let message = format!("{spilled} bytes went through a spill file");
            return Err(failed(outcome.pass, message.into()));
        }
        Ok(outcome)
    }

    /// What must hold for a pass, beyond that every body was right. What a folder costs that is too
    /// large for the disk tier depends on what is evicted, and what is found in one that has been
    /// in use depends on what was read then.
    fn check(&self, pass: Pass, outcome: &Outcome) -> Result<(), BoxError> {
        let Outcome {
            reads,
            origin_fetches: fetches,
            not_modified,
            ..
        } = *outcome;
        let files = self.catalog.files.iter();
        let fits = self.pantry.fits(files.map(|item| item.digest.len).sum());
        let wrong = match pass {
            Pass::Large | Pass::Stampede if fetches > 1 || (self.fresh && fetches == 0) => {
                format!("{fetches} fetches reached the origin instead of one")
            }
            Pass::Cold if self.fresh && fetches != reads => {
                format!("{fetches} fetches reached the origin instead of {reads}")
            }
            Pass::Again if fetches != 0 => {
                format!("{fetches} fetches reached the origin instead of none")
            }
            Pass::Again if !Pantry::is_for_memory(&self.catalog.large) => {
                match outcome.hits["disk"] {
                    hits if hits == reads => return Ok(()),
                    hits => format!("{hits} of {reads} reads came from disk"),
                }
            }
            Pass::Warm | Pass::Restart if fits && fetches != 0 => {
                format!("{fetches} fetches reached the origin instead of none")
            }
            Pass::Stale if fits && not_modified != reads => {
                format!("{not_modified} of {reads} files were found unchanged")
            }
            Pass::Restart if fits && outcome.hits["disk"] != reads => {
                format!("{} of {reads} files came from disk", outcome.hits["disk"])
            }
            _ => return Ok(()),
        };
        Err(failed(outcome.pass, wrong.into()))
    }

    /// Closes the cache and its stores.
    pub(crate) async fn close(self) -> Result<(), BoxError> {
        self.pantry.close().await
    }

    /// Reads every file so many times, by a few tasks that take turns.
    async fn files(&self, pass: &'static str, rounds: usize) -> Result<Tally, BoxError> {
        let reads = self.catalog.files.len() * rounds;
        self.progress.reads(pass, reads as u64);
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            let (catalog, next) = (Arc::clone(&self.catalog), Arc::clone(&next));
            let (pantry, progress) = (self.pantry.clone(), self.progress.clone());
            tasks.spawn(async move {
                let mut tally = Tally::default();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= reads {
                        return Ok(tally);
                    }
                    let item = &catalog.files[index % catalog.files.len()];
                    tally.add(pantry.read(item, |_| {}).await?);
                    progress.add(1);
                }
            });
        }
        collect(tasks).await
    }

    /// Reads the large object; each reader joins when the first has come some way further.
    async fn large(&self) -> Result<Tally, BoxError> {
        let len = self.catalog.large.digest.len;
        self.progress.bytes("large", len * LARGE_READERS);
        let lead = watch::Sender::new(0);
        let mut tasks = JoinSet::new();
        for reader in 1..LARGE_READERS {
            let (catalog, mut lead) = (Arc::clone(&self.catalog), lead.subscribe());
            let (pantry, progress) = (self.pantry.clone(), self.progress.clone());
            tasks.spawn(async move {
                let turn = len / (2 * LARGE_READERS) * reader;
                // Where the first reader fails, it says so itself.
                let _ = lead.wait_for(|at| *at >= turn).await;
                let read = pantry.read(&catalog.large, |bytes| progress.add(bytes));
                let mut tally = Tally::default();
                tally.add(read.await?);
                Ok(tally)
            });
        }
        let (catalog, progress) = (Arc::clone(&self.catalog), self.progress.clone());
        let pantry = self.pantry.clone();
        tasks.spawn(async move {
            let read = pantry.read(&catalog.large, |bytes| {
                lead.send_modify(|at| *at += bytes);
                progress.add(bytes);
            });
            let mut tally = Tally::default();
            tally.add(read.await?);
            Ok(tally)
        });
        collect(tasks).await
    }

    /// Reads the large object several times, one after the other.
    async fn again(&self) -> Result<Tally, BoxError> {
        let item = &self.catalog.large;
        self.progress.bytes("again", item.digest.len * AGAIN_ROUNDS);
        // The last reader of the pass before has all bytes; the object may still be on its way.
        self.pantry.at_rest().await;
        let mut tally = Tally::default();
        for _ in 0..AGAIN_ROUNDS {
            let read = self.pantry.read(item, |bytes| self.progress.add(bytes));
            tally.add(read.await?);
        }
        Ok(tally)
    }

    /// Asks for one object from a thousand tasks that all start at one signal.
    async fn stampede(&self) -> Result<Tally, BoxError> {
        self.progress.reads("stampede", STAMPEDE as u64);
        let start = watch::Sender::new(false);
        let mut tasks = JoinSet::new();
        for _ in 0..STAMPEDE {
            let (catalog, mut start) = (Arc::clone(&self.catalog), start.subscribe());
            let (pantry, progress) = (self.pantry.clone(), self.progress.clone());
            tasks.spawn(async move {
                let _ = start.wait_for(|started| *started).await;
                let mut tally = Tally::default();
                tally.add(pantry.read(&catalog.popular, |_| {}).await?);
                progress.add(1);
                Ok(tally)
            });
        }
        start.send_replace(true);
        collect(tasks).await
    }
}

fn failed(pass: &str, error: BoxError) -> BoxError {
    Box::new(larder::Error::with_source(
        larder::ErrorKind::Other,
        format!("the pass `{pass}` failed"),
        error,
    ))
}

/// Waits for all tasks; the first failure ends the others.
async fn collect(mut tasks: JoinSet<Result<Tally, BoxError>>) -> Result<Tally, BoxError> {
    let mut all = Tally::default();
    while let Some(ended) = tasks.join_next().await {
        all.merge(ended??);
    }
    Ok(all)
}
