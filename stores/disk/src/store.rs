//! The store's handle: the contract and its capabilities over the shared state.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64, atomic::Ordering},
    thread::JoinHandle,
};

use larder_store::{
    ByteRange, Commit, Draft, Error, ErrorKind, Fence, Fences, Identity, Key, Keys, List, Lookup,
    Metadata, Reply, Result, Store, Touch, Usage, Version, Writer,
};
use siphasher::sip::SipHasher13;
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    blob_table,
    blobs::Emptied,
    buffer::Buffers,
    clock,
    config::{Builder, Durability, Settings},
    figures::{Counters, Figures},
    flusher,
    intake::Intake,
    keeper,
    layout::Folder,
    listing,
    log::{self, Log, closed},
    medium::Medium,
    reader,
    record::{Head, Record},
    recover::{Recovered, recover},
    room::Room,
    sealer,
    volume::{Change, Patience, Publication, Volume},
    writer,
};

/// A store on a disk; see the [crate] for what it does.
///
/// A cheap handle: clones share one store. When the last one is dropped without
/// [`close`](Store::close), what was acknowledged is written and the background work ends; only
/// the next start takes a little longer.
#[derive(Clone)]
pub struct Disk(Arc<Door>);

/// What the handles share: the volume, and its threads.
struct Door {
    volume: Arc<Volume>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    detached: Arc<AtomicU64>,
}

impl Disk {
    /// Opens the store in this folder, or makes it, with the default [settings](Builder). It takes
    /// at most `capacity` bytes of the disk, beside what is being written.
    ///
    /// Errors and panics: as [`Builder::open`].
    pub async fn open(path: impl Into<PathBuf>, capacity: u64) -> Result<Self> {
        Self::builder(path, capacity).open().await
    }

    /// Settings for a store in this folder that takes at most `capacity` bytes of the disk.
    pub fn builder(path: impl Into<PathBuf>, capacity: u64) -> Builder {
        Builder::new(path.into(), capacity)
    }

    /// What it has done since it was opened.
    pub fn figures(&self) -> Figures {
        let volume = &self.0.volume;
        let counters = &volume.counters;
        Figures {
            written: counters.written.get(),
            moved: counters.moved.get(),
            detached: self.0.detached.load(Ordering::Relaxed),
            refused: counters.refused.get(),
            corrupt: counters.corrupt.get(),
            lost: counters.lost.get(),
            inline_reads: counters.inline_reads.get(),
            cold_reads: counters.cold_reads.get(),
            io_errors: counters.io_errors.get(),
            passing_through: volume.room.is_passing_through(),
            out_of_service: volume.medium.is_retired(),
        }
    }

    pub(crate) async fn start(path: PathBuf, settings: Settings) -> Result<Self> {
        Self::start_on(Medium::new(&path), settings).await
    }

    pub(crate) async fn start_on(medium: Medium, settings: Settings) -> Result<Self> {
        let runtime = Handle::current();
        let handle = runtime.clone();
        let opened = runtime.spawn_blocking(move || Door::open(medium, settings, handle));
        let door = opened.await.map_err(|error| {
            Error::with_source(ErrorKind::Unavailable, "the store was not opened", error)
        })??;
        Ok(Self(Arc::new(door)))
    }

    #[cfg(test)]
    pub(crate) fn volume(&self) -> &Arc<Volume> {
        &self.0.volume
    }
}

impl Door {
    fn open(medium: Medium, mut settings: Settings, runtime: Handle) -> Result<Self> {
        check_open_files(&settings)?;
        let folder = Folder::open(&medium, &settings)?;
        let detached = Arc::new(AtomicU64::new(0));
        let recovered = recover(&medium, &folder, &detached)?;
        let Recovered {
            index,
            segments,
            manifest,
            unsealed,
            blobs,
            next_sequence,
            used,
            next_snapshot,
        } = recovered;
        match medium.space() {
            Ok(space) => settings.fit(&space, used, segments_max())?,
            Err(error) => tracing::debug!(%error, "the file system does not tell its size"),
        }
        let log = Log::new(
            log::Settings {
                store_id: folder.store_id,
                segment_size: settings.segment_size,
                sync: settings.durability == Durability::OnCommit,
                detached: Arc::clone(&detached),
            },
            next_sequence,
        );
        let volume = Arc::new(Volume {
            room: Room::new(&settings, used, blobs),
            hasher: SipHasher13::new_with_key(&folder.store_id),
            cold: Arc::new(Semaphore::new(settings.cold_reads_max)),
            intake: Intake::new(&settings),
            settings,
            medium,
            folder,
            fences: Fences::new(),
            index,
            segments,
            manifest,
            log,
            buffers: Buffers::new(),
            counters: Counters::default(),
            emptied: Emptied::default(),
            runtime,
            closed: false.into(),
        });
        keeper::adopt(&volume);
        for segment in unsealed {
            volume.room.seal(segment);
        }
        let door = Self {
            volume,
            threads: Arc::default(),
            detached,
        };
        door.spawn("larder-log", flusher::run)?;
        door.spawn("larder-seal", move |volume| {
            sealer::run(volume, next_snapshot);
        })?;
        door.spawn("larder-room", keeper::run)?;
        Ok(door)
    }

    fn spawn(&self, name: &str, run: impl FnOnce(&Arc<Volume>) + Send + 'static) -> Result<()> {
        let volume = Arc::clone(&self.volume);
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || run(&volume));
        let thread = thread.map_err(|error| flusher::io("cannot start a thread", error))?;
        let threads = &mut self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(thread);
        Ok(())
    }

    /// Has everything written and the threads end; does not wait for them.
    fn stop(&self) {
        self.volume.closed.store(true, Ordering::Release);
        self.volume.log.stop();
        self.volume.room.stop();
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Refuses more segments than the process may have files open; a half is left to others.
fn check_open_files(settings: &Settings) -> Result<()> {
    let (files, most) = (settings.capacity / settings.segment_size, segments_max());
    if files > most {
        return Err(Error::invalid(format!(
            "{files} segments are more than {most}, half of the files that this process may have \
             open: raise that limit, or the size of a segment"
        )));
    }
    Ok(())
}

/// Half of the files that the process may have open.
fn segments_max() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX) / 2
}

/// Ends the threads, one after the other; who comes later waits for who came first.
fn join(threads: &Mutex<Vec<JoinHandle<()>>>) -> Result<()> {
    let mut threads = threads.lock().unwrap_or_else(PoisonError::into_inner);
    for thread in threads.drain(..) {
        let ended = thread.join();
        ended.map_err(|_| Error::new(ErrorKind::Other, "a thread of the store has panicked"))?;
    }
    Ok(())
}

impl Store for Disk {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        reader::get(&self.0.volume, key, range)
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        writer::open(&self.0.volume, key, draft)
    }

    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
        let volume = &self.0.volume;
        match volume.try_delete(key, fence.as_ref(), Patience::Immediate) {
            Ok(Change::Done) => Reply::ready(Ok(Commit::Done(None))),
            Ok(Change::Superseded) => Reply::ready(Ok(Commit::Superseded)),
            _ => {
                let deleting = async move { volume.delete(key, fence.as_ref()).await };
                clock::later(&volume.runtime, deleting)
            }
        }
    }

    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        reader::stat(&self.0.volume, key)
    }

    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
        let volume = &self.0.volume;
        let fence = volume
            .check_open()
            .map(|()| volume.fences.lock(key).fence());
        Reply::ready(fence)
    }

    fn kind(&self) -> &'static str {
        "disk"
    }

    fn usage(&self) -> Usage {
        let volume = &self.0.volume;
        let mut usage = Usage::default();
        let objects = volume.index.count();
        usage.entries = objects.entries;
        usage.live = objects.live;
        usage.stored = volume.room.used();
        usage.staged = volume.intake.memory.staged();
        usage.capacity = Some(volume.room.limit());
        usage.evictions = volume.counters.evictions.get();
        usage
    }

    fn close(&self) -> Reply<'_, ()> {
        clock::later(&self.0.volume.runtime, async move {
            self.0.stop();
            let threads = Arc::clone(&self.0.threads);
            let ended = (self.0.volume.runtime).spawn_blocking(move || join(&threads));
            ended.await.map_err(|_| closed())??;
            self.0.volume.check_service()
        })
    }

    /// [`Builder::object_max`], or less while a full disk makes the store smaller.
    fn object_max(&self) -> Option<u64> {
        let volume = &self.0.volume;
        let Settings {
            object_max,
            large_object,
            ..
        } = volume.settings;
        // A file takes whole blocks.
        let file_max = volume.medium.block().round_down(volume.room.blob_max());
        let blob_max = file_max.saturating_sub(blob_table::table_len(file_max));
        Some(object_max.min(blob_max.max(large_object)))
    }

    fn identity(&self) -> Identity {
        Identity::of(&*self.0)
    }

    fn as_touch(&self) -> Option<&dyn Touch> {
        Some(self)
    }

    fn as_list(&self) -> Option<&dyn List> {
        Some(self)
    }
}

/// A small object is written again, whole; of a large one only its record.
impl Touch for Disk {
    fn touch<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Commit> {
        clock::later(&self.0.volume.runtime, touch(&self.0.volume, key, draft))
    }
}

async fn touch(volume: &Arc<Volume>, key: Key<'_>, mut draft: Draft) -> Result<Commit> {
    volume.check_open()?;
    volume.check_service()?;
    draft.check()?;
    let fence = draft.take_fence();
    loop {
        let Some((place, bytes)) = reader::whole(volume, key).await? else {
            return Ok(Commit::Superseded);
        };
        let located = volume.locate(volume.hash(key));
        let Some(located) = located.filter(|located| located.place == place) else {
            continue;
        };
        let Some(head) = Head::parse(&bytes, located.segment.seed) else {
            continue;
        };
        let Some(old) = head.metadata() else {
            return Ok(Commit::Superseded);
        };
        draft.check_len(old.len())?;
        let metadata = old.touched(draft.clone(), Version(volume.log.draw()));
        let hash = head.header.hash;
        let record = match head.blob() {
            Some(name) => Record::blob(hash, key, &metadata, name),
            None => {
                let start = head.header.head_len();
                let value = bytes.slice(start..start + head.header.len as usize);
                Record::object(hash, key, &metadata, value)
            }
        };
        let publication = Publication {
            key,
            record: &record,
            blob: located.blob.as_ref(),
            fence: fence.as_ref(),
            instead: Some(place),
        };
        if volume.publish(publication).await?.is_done() {
            return Ok(Volume::done(metadata));
        }
        // The keeper may have moved the record, which ends no fence.
        let moved = (volume.index.read(hash).get(hash)).is_some_and(|word| word.place() != place);
        let holds = fence
            .as_ref()
            .is_none_or(|fence| volume.fences.lock(key).holds(fence));
        if !(moved && holds) {
            return Ok(Commit::Superseded);
        }
    }
}

/// The keys come from memory and from the footers of segments; those of one segment are read at a
/// time.
impl List for Disk {
    fn list(&self, prefix: &str) -> Keys {
        listing::list(&self.0.volume, prefix)
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("path", &self.0.volume.medium.path())
            .field("usage", &self.usage())
            .finish()
    }
}
