//! The file behind a flight whose bytes no tier stages.
//!
//! It is unlinked when it is made, so that nothing is left behind whatever happens, and it is gone
//! with its last handle: the flight's, or that of a reader that still lags.
//!
//! All work on the file takes a blocking thread, and these may all be busy for any time. So each
//! step has a limit. A write that takes longer has failed, and the flight goes on without the file.
//! A read that finds no thread runs where it is.

use std::{fs::File, io, path::PathBuf, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use larder_store::{BoxError, Error, ErrorKind, Reply, Result, Staged};
use tokio::task::{JoinError, JoinHandle};

use crate::{
    engine::Settings,
    runtime::Runtime,
    sync::{AtomicU64, Mutex, Ordering, lock},
    within::within,
};

/// Longest wait for one step, see [`SpillSpace::new`].
const STEP_MAX: Duration = Duration::from_secs(1);

/// Where spill files are made, and what all of them may take together.
#[derive(Debug)]
pub(crate) struct SpillSpace {
    /// Its threads do what may wait for the disk, whoever reads.
    runtime: Runtime,
    dir: PathBuf,
    /// Longest wait for one step on a file.
    step: Duration,
    total: u64,
    used: AtomicU64,
}

impl SpillSpace {
    /// Files in `spool_dir` of `spool_disk_total` bytes together. Each step on one has a second, or
    /// a quarter of the idle time-out where that is shorter.
    pub(crate) fn new(runtime: Runtime, settings: &Settings) -> Self {
        Self {
            runtime,
            dir: settings.spool_dir.clone(),
            step: STEP_MAX.min(settings.idle_timeout / 4),
            total: settings.spool_disk_total,
            used: AtomicU64::new(0),
        }
    }

    fn take(&self, len: u64) -> Result<()> {
        let room = |used: u64| used.checked_add(len).filter(|sum| *sum <= self.total);
        let taken = self
            .used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, room);
        taken.map(drop).map_err(|used| {
            let message = format!("all spill files have {used} bytes of {}", self.total);
            Error::new(ErrorKind::Full, message)
        })
    }
}

pub(crate) struct SpillFile {
    file: File,
    space: Arc<SpillSpace>,
    /// Bytes that it takes from the total.
    taken: AtomicU64,
}

impl SpillFile {
    pub(crate) async fn create(space: &Arc<SpillSpace>) -> Result<Arc<Self>> {
        let dir = space.dir.clone();
        let file = offload(space, move || tempfile::tempfile_in(dir)).await;
        Ok(Arc::new(Self {
            file: file.in_time()?,
            space: Arc::clone(space),
            taken: AtomicU64::new(0),
        }))
    }

    /// Writes chunks one behind the other. `Full` where all spill files have no room for them.
    pub(crate) async fn write(self: &Arc<Self>, mut offset: u64, chunks: Vec<Bytes>) -> Result<()> {
        let len = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        self.space.take(len)?;
        self.taken.fetch_add(len, Ordering::AcqRel);
        let this = Arc::clone(self);
        let written = offload(&self.space, move || {
            chunks.iter().try_for_each(|chunk| {
                write_at(&this.file, chunk, offset)?;
                offset += chunk.len() as u64;
                Ok(())
            })
        });
        written.await.in_time()
    }

    /// Reads on another thread, or here where none is free in time.
    async fn read_elsewhere(self: Arc<Self>, offset: u64, max: usize) -> Result<Bytes> {
        let space = Arc::clone(&self.space);
        match offload(&space, move || self.read_now(offset, max)).await {
            Offloaded::Done(read) => flatten(read),
            // A short wait of this thread is better than an endless one of the reader.
            Offloaded::NotBegun(read) => flatten(Ok(read())),
            // The disk is slow. The reader has a limit of its own.
            Offloaded::Running(read) => flatten(read.await),
        }
    }

    fn read_now(&self, offset: u64, max: usize) -> io::Result<Bytes> {
        let mut buffer = BytesMut::zeroed(max);
        let len = read_at(&self.file, &mut buffer, offset)?;
        buffer.truncate(len);
        Ok(buffer.freeze())
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        let taken = self.taken.load(Ordering::Acquire);
        self.space.used.fetch_sub(taken, Ordering::AcqRel);
    }
}

impl Staged for SpillFile {
    /// Bytes in the page cache are read inline: a hop to another thread costs more than the
    /// read. Each read takes from tokio's budget, so that a reader far behind does not hold its
    /// worker.
    fn read(self: Arc<Self>, offset: u64, max: usize) -> Reply<'static, Bytes> {
        match read_cached(&self.file, offset, max) {
            Some(bytes) => Reply::ready(Ok(bytes)),
            None => Reply::later(self.read_elsewhere(offset, max)),
        }
    }
}

/// The outcome of work for a blocking thread.
enum Offloaded<T, W> {
    Done(Result<io::Result<T>, JoinError>),
    /// No thread took it in time: here it is again.
    NotBegun(W),
    /// It takes longer.
    Running(JoinHandle<io::Result<T>>),
}

/// Work that waits for a thread. Dropped, it takes the work back.
struct Offer<W>(Arc<Mutex<Option<W>>>);

impl<W> Offer<W> {
    fn take_back(&self) -> Option<W> {
        lock(&self.0).take()
    }
}

impl<W> Drop for Offer<W> {
    fn drop(&mut self) {
        drop(self.take_back());
    }
}

/// Runs `work` on a blocking thread, and waits for it no longer than a step may take.
async fn offload<T, W>(space: &SpillSpace, work: W) -> Offloaded<T, W>
where
    T: Send + 'static,
    W: FnOnce() -> io::Result<T> + Send + 'static,
{
    let offer = Offer(Arc::new(Mutex::new(Some(work))));
    let offered = Arc::clone(&offer.0);
    let mut task = space.runtime.spawn_blocking(move || {
        let work = lock(&offered).take();
        // If it was taken back, nobody waits for the result.
        work.map_or_else(|| Err(io::ErrorKind::Interrupted.into()), |work| work())
    });
    match within(&space.runtime, space.step, &mut task).await {
        Ok(done) => Offloaded::Done(done),
        Err(_) => match offer.take_back() {
            Some(work) => Offloaded::NotBegun(work),
            None => Offloaded::Running(task),
        },
    }
}

impl<T, W> Offloaded<T, W> {
    /// The result; a `Timeout` where it did not come in time.
    fn in_time(self) -> Result<T> {
        let message = match self {
            Self::Done(result) => return flatten(result),
            Self::NotBegun(_) => "no thread was free for the spill file",
            Self::Running(_) => "the disk is too slow for the spill file",
        };
        Err(Error::timeout(message))
    }
}

fn flatten<T>(result: Result<io::Result<T>, JoinError>) -> Result<T> {
    let error = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => BoxError::from(error),
        Err(error) => error.into(),
    };
    Err(Error::with_source(
        ErrorKind::Unavailable,
        "the spill file failed",
        error,
    ))
}

/// Bytes that can be read without waiting for the disk.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, offset: u64, max: usize) -> Option<Bytes> {
    let mut buffer = BytesMut::zeroed(max);
    let slice = &mut [io::IoSliceMut::new(&mut buffer)];
    let len = rustix::io::preadv2(file, slice, offset, rustix::io::ReadWriteFlags::NOWAIT).ok()?;
    buffer.truncate(len);
    (len > 0).then(|| buffer.freeze())
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_: &File, _: u64, _: usize) -> Option<Bytes> {
    None
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn write_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let len = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        bytes = &bytes[len..];
        offset += len as u64;
    }
    Ok(())
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::mpsc;

    use tokio::{runtime::Handle, task::spawn_blocking};

    use super::*;

    fn space(total: u64, idle: Duration) -> Arc<SpillSpace> {
        let runtime = Runtime::new(Handle::current()).expect("it has timers");
        let settings = Settings {
            idle_timeout: idle,
            spool_disk_total: total,
            ..Settings::default()
        };
        Arc::new(SpillSpace::new(runtime, &settings))
    }

    /// Runs on a runtime with one blocking thread, which is busy until the sender is dropped.
    fn on_one_thread<F: Future>(test: impl FnOnce(mpsc::Sender<()>) -> F) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().max_blocking_threads(1).build();
        let runtime = runtime.expect("a runtime");
        let (busy, wait) = mpsc::channel::<()>();
        runtime.block_on(async {
            drop(spawn_blocking(move || wait.recv()));
            test(busy).await;
        });
    }

    #[test]
    fn s87_a_file_that_no_thread_makes_or_writes_has_failed() {
        on_one_thread(async |busy| {
            let space = space(1 << 20, Duration::from_millis(40));
            let made = SpillFile::create(&space).await;
            assert!(made.err().expect("no thread").is_timeout());
            drop(busy);
            let space = self::space(1 << 20, Duration::from_secs(120));
            let file = SpillFile::create(&space).await.expect("a file");
            let (busy, wait) = mpsc::channel::<()>();
            let blocker = spawn_blocking(move || wait.recv());
            let chunk = Bytes::from_static(b"chunk");
            let hasty = Arc::new(SpillFile {
                file: file.file.try_clone().expect("a handle"),
                space: self::space(1 << 20, Duration::from_millis(40)),
                taken: AtomicU64::new(0),
            });
            let written = hasty.write(0, vec![chunk.clone()]).await;
            assert!(written.expect_err("no thread").is_timeout());
            drop(busy);
            let _ = blocker.await;
            assert_eq!(Arc::strong_count(&hasty), 1, "the work was taken back");
            file.write(0, vec![chunk.clone()]).await.expect("written");
            let read = Arc::clone(&file).read(0, 99).await;
            assert_eq!(read.expect("read"), chunk);
        });
    }

    #[test]
    fn s87_what_no_thread_reads_is_read_here() {
        on_one_thread(async |busy| {
            let space = space(1 << 20, Duration::from_millis(40));
            let file = tempfile::tempfile().expect("a file");
            write_at(&file, b"chunk", 0).expect("written");
            let taken = AtomicU64::new(0);
            let file = Arc::new(SpillFile { file, space, taken });
            let read = Arc::clone(&file).read_elsewhere(1, 99).await;
            assert_eq!(read.expect("read"), &b"hunk"[..]);
            drop(busy);
        });
    }

    #[tokio::test]
    async fn s94_files_share_their_total_and_give_it_back() {
        let space = space(10, Duration::from_secs(120));
        let files = [
            SpillFile::create(&space).await.expect("a file"),
            SpillFile::create(&space).await.expect("a file"),
        ];
        let write = async |file: usize, len: usize| {
            let chunk = Bytes::from(vec![1; len]);
            files[file].write(0, vec![chunk]).await
        };
        write(0, 6).await.expect("room");
        assert!(write(1, 5).await.expect_err("no room").is_full());
        write(1, 4).await.expect("room");
        assert!(write(1, 1).await.is_err());
        drop(files);
        assert_eq!(space.used.load(Ordering::Acquire), 0);
    }
}
