//! Streaming a source to readers and lanes within bounded memory.

use std::sync::Arc;

use bytes::Bytes;
use larder_store::{Body, Error, ErrorKind, Result, Staged};
use tokio::{
    sync::OwnedSemaphorePermit,
    task::{coop::consume_budget, yield_now},
};

use super::{fill::Fill, flight::Flight, plan::Plan, spill::SpillFile, spool::Next};
use crate::{
    counters::count,
    engine::{Engine, refused},
    sync::Ordering,
    within::{Missed, within},
};

/// Brings the source to its end. An error is the flight's; nothing was published.
pub(crate) async fn stream(
    engine: &Engine,
    flight: &Flight,
    plan: &Plan,
    fill: &mut Fill,
    body: Body,
) -> Result<()> {
    let memory = Memory {
        engine,
        reserved: None,
    };
    let spill = Spill {
        engine,
        file: None,
        refused: false,
    };
    let behind = plan.behind;
    // Who started the flight may be the one that polls it, and reads what is streamed from here on.
    yield_now().await;
    let mut pump = Pump {
        engine,
        flight,
        behind,
        body,
        memory,
        spill,
    };
    let result = pump.run(fill).await;
    flight.release_slot();
    if result.is_ok() {
        flight.finish();
    }
    pump.memory.hand_over(flight, &mut pump.spill).await;
    result
}

struct Pump<'a> {
    engine: &'a Engine,
    flight: &'a Flight,
    /// Nobody waits for the flight, so that nobody can leave it.
    behind: bool,
    body: Body,
    memory: Memory<'a>,
    spill: Spill<'a>,
}

impl Pump<'_> {
    async fn run(&mut self, fill: &mut Fill) -> Result<()> {
        let (engine, flight) = (self.engine, self.flight);
        self.memory.reserve(flight, &mut self.spill, true).await;
        // The first bytes reach the readers while the tiers are still opening their writers.
        let writing = fill.is_writing();
        let open = async {
            fill.open(engine, &flight.key, false).await;
            fill.back(engine, flight);
            flight.staged();
        };
        let (first, ()) = tokio::join!(self.pull(writing), open);
        let mut chunk = first?;
        while let Some(bytes) = chunk {
            fill.write(engine, Some(flight), &bytes).await;
            drop(bytes);
            // A source and tiers that never wait must not keep the thread.
            consume_budget().await;
            if flight.is_retired() {
                fill.abandon();
            }
            self.make_room(fill.is_writing()).await?;
            chunk = self.pull(fill.is_writing()).await?;
        }
        Ok(())
    }

    /// The next chunk, appended for the readers before the tiers see it. Where nobody is left to
    /// read it, it may not be worth waiting for.
    async fn pull(&mut self, writing: bool) -> Result<Option<Bytes>> {
        let (engine, flight) = (self.engine, self.flight);
        let (idle, len) = (engine.settings.idle_timeout, self.body.len());
        let given_up = async {
            loop {
                flight.abandoned().await;
                let came = flight.extent().0;
                let len = len.map(|left| left + came);
                if writing && (self.behind || engine.outlives_readers(came, len)) {
                    std::future::pending::<()>().await;
                }
                if flight.closes_abandoned() {
                    return;
                }
            }
        };
        let next = tokio::select! {
            biased;
            next = within(engine.tasks.runtime(), idle, self.body.chunk()) => next,
            () = given_up => return Err(abandoned(engine)),
        };
        let late =
            |missed: Missed| missed.error(|| format!("the source gave nothing for {idle:?}"));
        let chunk = next.map_err(late)??;
        if let Some(bytes) = &chunk {
            flight.append(bytes);
        }
        Ok(chunk)
    }

    /// Waits until there is room for the next chunk and someone to take it.
    async fn make_room(&mut self, writing: bool) -> Result<()> {
        loop {
            if !writing && self.flight.closes_abandoned() {
                return Err(abandoned(self.engine));
            }
            let next = self.flight.next(writing, false);
            self.spill.note(self.flight);
            match next {
                (Next::Pull, _) => break,
                (Next::Spill(from, chunks), _) => self.spill.write(self.flight, from, chunks).await,
                (Next::Wait, progress) => self.wait_for_readers(progress).await?,
            }
        }
        self.memory
            .reserve(self.flight, &mut self.spill, writing)
            .await;
        Ok(())
    }

    /// Waits until a reader moves; those that do not for the idle time-out are cut.
    async fn wait_for_readers(&mut self, progress: u64) -> Result<()> {
        let idle = self.engine.settings.idle_timeout;
        // Others may fetch while this one waits for its readers.
        self.flight.release_slot();
        let moved = self.flight.moved(progress);
        if within(self.engine.tasks.runtime(), idle, moved)
            .await
            .is_ok()
        {
            return Ok(());
        }
        let cut = self.flight.cut_blocked();
        self.engine
            .counts
            .readers_cut
            .fetch_add(cut as u64, Ordering::Relaxed);
        if cut == 0 {
            Err(abandoned(self.engine))
        } else {
            Ok(())
        }
    }
}

fn abandoned(engine: &Engine) -> Error {
    count(&engine.counts.flights_abandoned);
    refused(ErrorKind::Other, "nobody reads the flight any more")
}

/// The spill file, made when it is first needed.
struct Spill<'a> {
    engine: &'a Engine,
    file: Option<(Arc<SpillFile>, Arc<dyn Staged>)>,
    /// It was counted that it failed, or is full.
    refused: bool,
}

impl Spill<'_> {
    async fn write(&mut self, flight: &Flight, from: u64, chunks: Vec<Bytes>) {
        let len = chunks.iter().map(|bytes| bytes.len() as u64).sum();
        match self.try_write(from, chunks).await {
            Ok(file) => {
                self.engine
                    .counts
                    .spilled_bytes
                    .fetch_add(len, Ordering::Relaxed);
                flight.spilled(&file, from, len);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot spill: the slowest reader sets the pace");
                flight.spill_failed();
            }
        }
    }

    /// Counts, once, that something had to stay in the window.
    fn note(&mut self, flight: &Flight) {
        if !self.refused && flight.is_crowded() {
            self.refused = true;
            count(&self.engine.counts.spill_refused);
        }
    }

    async fn try_write(&mut self, from: u64, chunks: Vec<Bytes>) -> Result<Arc<dyn Staged>> {
        let (file, staged) = match &self.file {
            Some(file) => file,
            None => {
                let file = SpillFile::create(&self.engine.spill).await?;
                let staged: Arc<dyn Staged> = Arc::clone(&file) as _;
                self.file.insert((file, staged))
            }
        };
        file.write(from, chunks).await?;
        Ok(Arc::clone(staged))
    }
}

/// The flight's share of the memory for all windows: what it holds, and room for one chunk.
struct Memory<'a> {
    engine: &'a Engine,
    reserved: Option<OwnedSemaphorePermit>,
}

impl Memory<'_> {
    /// Reserves. Where the total is used up, the flight first releases all of its window that can
    /// be read back, so that flights never wait for each other in a circle.
    async fn reserve(&mut self, flight: &Flight, spill: &mut Spill<'_>, writing: bool) {
        if self.try_reserve(flight) {
            return;
        }
        self.release(flight, spill, writing).await;
        if self.try_reserve(flight) {
            return;
        }
        flight.release_slot();
        let missing = self.missing(flight);
        let total = Arc::clone(&self.engine.memory);
        let wait = within(
            self.engine.tasks.runtime(),
            self.engine.settings.idle_timeout,
            total.acquire_many_owned(missing),
        );
        // What cannot be had in time is used all the same: one chunk, rather than a failed read.
        if let Ok(Ok(permit)) = wait.await {
            self.merge(permit);
        }
    }

    /// Releases all of the window that can be read back.
    async fn release(&mut self, flight: &Flight, spill: &mut Spill<'_>, writing: bool) {
        while let (Next::Spill(from, chunks), _) = flight.next(writing, true) {
            spill.write(flight, from, chunks).await;
        }
    }

    fn try_reserve(&mut self, flight: &Flight) -> bool {
        self.give_back(self.needed(flight));
        let missing = self.missing(flight);
        match Arc::clone(&self.engine.memory).try_acquire_many_owned(missing) {
            Ok(permit) => {
                self.merge(permit);
                true
            }
            Err(_) => false,
        }
    }

    /// What the flight needs, in KiB, never more than there is in all.
    fn needed(&self, flight: &Flight) -> usize {
        let (_, held, chunk) = flight.extent();
        self.in_kib(held + chunk)
    }

    fn in_kib(&self, bytes: u64) -> usize {
        usize::try_from(bytes.div_ceil(1 << 10))
            .unwrap_or(usize::MAX)
            .min(self.total())
    }

    fn total(&self) -> usize {
        usize::try_from((self.engine.settings.spool_memory_total >> 10).max(1))
            .unwrap_or(usize::MAX)
    }

    fn missing(&self, flight: &Flight) -> u32 {
        let reserved = self
            .reserved
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        u32::try_from(self.needed(flight).saturating_sub(reserved)).unwrap_or(u32::MAX)
    }

    fn give_back(&mut self, needed: usize) {
        if let Some(reserved) = &mut self.reserved {
            let surplus = reserved.num_permits().saturating_sub(needed);
            drop(reserved.split(surplus));
        }
    }

    fn merge(&mut self, permit: OwnedSemaphorePermit) {
        match &mut self.reserved {
            Some(reserved) => reserved.merge(permit),
            None => self.reserved = Some(permit),
        }
    }

    /// The window lives on with its readers, and so does its reservation. Nobody knows how long
    /// that is: where less than half of the total is free for the flights to come, the window goes
    /// as far as it can be read back.
    async fn hand_over(&mut self, flight: &Flight, spill: &mut Spill<'_>) {
        if self.engine.memory.available_permits() < self.total() / 2 {
            self.release(flight, spill, true).await;
        }
        let (_, held, _) = flight.extent();
        self.give_back(self.in_kib(held));
        if let Some(reserved) = self.reserved.take() {
            flight.keep(Box::new(reserved));
        }
    }
}
