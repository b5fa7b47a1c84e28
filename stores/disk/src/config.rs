//! Settings: how much a store may hold, of what size, and what it promises when power fails.

use std::{fmt, path::PathBuf, sync::Arc};

use larder_store::{Error, Key, METADATA_LEN_MAX, Result, Timestamp};

use crate::{
    Disk, blob_table,
    index::SEGMENT_MAX,
    record::{HEADER_LEN, VALUE_LEN_MAX},
    space::Space,
};

/// What a commit or a delete that was acknowledged survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// The end of the process, by whatever means: of replacements and deletes nothing is lost. The
    /// store begins to write a new object 5 ms after its commit at the latest, and as much later as
    /// the system lets its thread wait; until then it may be lost. Of 100 kills on a busy machine of
    /// two cores the oldest lost object was 7 ms old at 90 % and 60 ms at most, and beside four busy
    /// loops 16 ms and 48 ms. When power fails, about the last second is lost. The default.
    #[default]
    Relaxed,
    /// The loss of power, too: what is acknowledged is on the disk. Each commit waits for it.
    OnCommit,
}

/// What happens when objects come faster than the disk takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overload {
    /// Their commits wait. The default.
    #[default]
    Wait,
    /// Their commits fail as `Full`, and are counted in [`Figures::refused`](crate::Figures::refused).
    Refuse,
}

/// Which large objects are let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// All of them. The default.
    #[default]
    All,
    /// One that has a file of its own must be offered twice within a while: the first time its
    /// writer is refused as `Full`, and counted in [`Figures::refused`](crate::Figures::refused).
    SecondHit,
}

/// What becomes of the system's page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageCache {
    /// What was read of objects of 64 MiB and more is dropped from it behind the reader, so that
    /// one film does not push out everything else. The default.
    #[default]
    DropLarge,
    /// The system decides.
    Keep,
}

/// What to do with a store that was not closed before the machine was started anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AfterPowerLoss {
    /// Keep what its checksums confirm. An object that was replaced or deleted in the last second
    /// before may be there in its older form. The default.
    #[default]
    Keep,
    /// Begin with an empty store.
    StartCold,
}

/// Settings of a [`Disk`] store; [`Disk::builder`] makes one. All sizes are bytes.
#[must_use]
pub struct Builder {
    path: PathBuf,
    capacity: u64,
    segment_size: Option<u64>,
    large_object: Option<u64>,
    object_max: Option<u64>,
    staging_max: Option<u64>,
    write_rate_max: Option<u64>,
    cold_reads_max: usize,
    durability: Durability,
    overload: Overload,
    admission: Admission,
    page_cache: PageCache,
    after_power_loss: AfterPowerLoss,
    clock: Clock,
}

pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The settings in force.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) capacity: u64,
    pub(crate) segment_size: u64,
    /// Whether a caller has chosen the size of a segment.
    pub(crate) is_segment_chosen: bool,
    /// A longer body goes to a file of its own.
    pub(crate) large_object: u64,
    pub(crate) object_max: u64,
    /// The most that small objects being written may take in memory; beyond it they go to files.
    pub(crate) staging_max: u64,
    /// Bytes a second that new objects may bring.
    pub(crate) write_rate_max: Option<u64>,
    pub(crate) cold_reads_max: usize,
    pub(crate) durability: Durability,
    pub(crate) overload: Overload,
    pub(crate) admission: Admission,
    pub(crate) page_cache: PageCache,
    pub(crate) after_power_loss: AfterPowerLoss,
    pub(crate) clock: Clock,
}

/// The least that a store can work with.
const CAPACITY_MIN: u64 = 1 << 20;
/// A store has fewer than 65,536 segments.
const SEGMENTS_MAX: u64 = 1 << 15;
const CAPACITY_MAX: u64 = SEGMENTS_MAX * SEGMENT_MAX;
/// What a record may take beside its value: with the longest key, the most metadata, and a table.
const BESIDE_MAX: u64 = (HEADER_LEN + Key::LEN_MAX + METADATA_LEN_MAX + (8 << 10)) as u64;
const SEGMENT_MIN: u64 = 128 << 10;

impl Builder {
    pub(crate) fn new(path: PathBuf, capacity: u64) -> Self {
        Self {
            path,
            capacity,
            segment_size: None,
            large_object: None,
            object_max: None,
            staging_max: None,
            write_rate_max: None,
            cold_reads_max: 64,
            durability: Durability::default(),
            overload: Overload::default(),
            admission: Admission::default(),
            page_cache: PageCache::default(),
            after_power_loss: AfterPowerLoss::default(),
            clock: wall(),
        }
    }

    /// What an acknowledged commit survives. Default: [`Durability::Relaxed`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The length of a segment of the log. Room is given back a segment at a time, and each keeps a
    /// file open.
    ///
    /// If the file system has less room than the capacity when the store is opened, segments are
    /// shorter until it is opened again: at most an eighth of that room where a size was set, else a
    /// 16th, and not below 128 KiB. The capacity is then at most what half of the files that the
    /// process may have open hold at that size ([`usage`](larder_store::Store::usage) has it).
    ///
    /// Default: a 256th of the capacity, at least 16 MiB and at most 1 GiB, but never more than a
    /// 16th of the capacity, nor less than 128 KiB. A store that would need more than half of the
    /// files that the process may have open is not opened (`Invalid`).
    pub fn segment_size(mut self, bytes: u64) -> Self {
        self.segment_size = Some(bytes);
        self
    }

    /// Bodies that are longer get a file of their own. Default, and at most: 1 MiB, and a quarter
    /// of a segment.
    pub fn large_object(mut self, bytes: u64) -> Self {
        self.large_object = Some(bytes);
        self
    }

    /// The longest body of an object; what is longer is refused as `TooLarge`. Default, and at
    /// most: what half of the capacity holds with its checksums, 4 bytes for each 256 KiB.
    pub fn object_max(mut self, bytes: u64) -> Self {
        self.object_max = Some(bytes);
        self
    }

    /// The most that small objects may take in memory while they are written; beyond it they are
    /// staged in files. Default: 64 MiB.
    pub fn staging_max(mut self, bytes: u64) -> Self {
        self.staging_max = Some(bytes);
        self
    }

    /// The most bytes a second that new objects may bring, averaged over a second, to spare the
    /// disk. What goes beyond is refused as `Full` and counted. Default: no limit.
    pub fn write_rate_max(mut self, bytes_per_second: u64) -> Self {
        self.write_rate_max = Some(bytes_per_second);
        self
    }

    /// How many reads may wait for the disk at once; others wait for them. Default: 64.
    pub fn cold_reads_max(mut self, count: usize) -> Self {
        self.cold_reads_max = count;
        self
    }

    /// What happens when objects come faster than the disk takes them. Default:
    /// [`Overload::Wait`].
    pub fn overload(mut self, overload: Overload) -> Self {
        self.overload = overload;
        self
    }

    /// Which large objects are let in. Default: [`Admission::All`].
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// What becomes of the system's page cache. Default: [`PageCache::DropLarge`].
    pub fn page_cache(mut self, page_cache: PageCache) -> Self {
        self.page_cache = page_cache;
        self
    }

    /// What to do with a store that was not closed before the machine was started anew. Default:
    /// [`AfterPowerLoss::Keep`].
    pub fn after_power_loss(mut self, after: AfterPowerLoss) -> Self {
        self.after_power_loss = after;
        self
    }

    /// The clock by which objects expire
    /// ([`Header::expires_at`](larder_store::Header::expires_at)). Default: that of the system.
    ///
    /// It is called with no lock held, and must not block.
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Opens the store, or makes it where the folder is missing or empty; with what it held, it is
    /// warm. A relative path is resolved now: later the working directory does not matter.
    ///
    /// Errors: `Invalid` for settings that make no sense, a path that is empty or not a folder, a
    /// folder that holds something else, a file system of less than 1 MiB, and a format that this
    /// version does not know; `Unavailable` when
    /// another process has it open, or the folder cannot be read and written.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn open(self) -> Result<Disk> {
        let settings = self.settings()?;
        Disk::start(self.path, settings).await
    }

    pub(crate) fn settings(&self) -> Result<Settings> {
        let capacity = self.capacity;
        within("capacity", capacity, CAPACITY_MIN, CAPACITY_MAX)?;
        let segment = (capacity / 256)
            .clamp(16 << 20, SEGMENT_MAX)
            .min((capacity / 16).max(SEGMENT_MIN));
        let asked = self.segment_size.unwrap_or(segment);
        let segment_size = asked / 4096 * 4096;
        let least = SEGMENT_MIN.max(capacity.div_ceil(SEGMENTS_MAX).next_multiple_of(4096));
        let most = SEGMENT_MAX.min(capacity / 8);
        if !(least..=most).contains(&segment_size) {
            // Told as it was set, before it was rounded down.
            within("segment_size", asked, least, most)?;
        }
        let large_max = u64::from(VALUE_LEN_MAX).min(segment_size / 4);
        let large_object = self.large_object.unwrap_or(large_max);
        within("large_object", large_object, 0, large_max)?;
        debug_assert!(large_max + BESIDE_MAX + segment_size / 64 + 64 <= segment_size);
        let object_most = object_most(capacity);
        let object_max = self.object_max.unwrap_or(object_most);
        within("object_max", object_max, 1, object_most)?;
        within("cold_reads_max", self.cold_reads_max as u64, 1, 1 << 16)?;
        if let Some(rate) = self.write_rate_max {
            within("write_rate_max", rate, 1, u64::MAX)?;
        }
        Ok(Settings {
            capacity,
            segment_size,
            is_segment_chosen: self.segment_size.is_some(),
            large_object,
            object_max,
            staging_max: self.staging_max.unwrap_or(64 << 20),
            write_rate_max: self.write_rate_max,
            cold_reads_max: self.cold_reads_max,
            durability: self.durability,
            overload: self.overload,
            admission: self.admission,
            page_cache: self.page_cache,
            after_power_loss: self.after_power_loss,
            clock: Arc::clone(&self.clock),
        })
    }
}

/// The longest body that half of the capacity holds with its checksums.
fn object_most(capacity: u64) -> u64 {
    let half = capacity / 2;
    half - blob_table::table_len(half)
}

impl Settings {
    /// Makes the segments so small that the file system has room for as many as the capacity would
    /// have, where `used` bytes of it are the store's. Each keeps a file open, so if there would be
    /// more than `segments_max` the capacity is less, too.
    ///
    /// `Invalid` where the whole file system is smaller than the least store.
    pub(crate) fn fit(&mut self, space: &Space, used: u64, segments_max: u64) -> Result<()> {
        if space.total == 0 {
            // It does not tell.
            return Ok(());
        }
        if space.total < CAPACITY_MIN {
            let total = space.total;
            return Err(Error::invalid(format!(
                "the file system has {total} bytes in all, a store needs {CAPACITY_MIN}"
            )));
        }
        let room = used.saturating_add(space.free).min(self.capacity);
        let parts = if self.is_segment_chosen { 8 } else { 16 };
        let most = (room / parts).max(SEGMENT_MIN) / 4096 * 4096;
        if self.segment_size > most {
            tracing::info!(
                room,
                segment_size = most,
                "there is room for small segments only"
            );
            self.segment_size = most;
            self.large_object = self.large_object.min(most / 4);
            let segments_max = segments_max.min(SEGMENTS_MAX);
            self.capacity = self.capacity.min(most.saturating_mul(segments_max));
            self.object_max = self.object_max.min(object_most(self.capacity));
        }
        self.segment_size = space.block.round_up(self.segment_size);
        Ok(())
    }
}

fn within(name: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name} is {value}, which is not between {least} and {most}"
    )))
}

#[allow(clippy::disallowed_methods)] // The one place that asks the system.
fn wall() -> Clock {
    Arc::new(Timestamp::now)
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("path", &self.path)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::BlockSize;

    fn settings(capacity: u64, change: impl FnOnce(Builder) -> Builder) -> Result<Settings> {
        change(Builder::new(PathBuf::new(), capacity)).settings()
    }

    #[test]
    fn defaults_are_as_documented() {
        let of = |capacity| {
            let settings = settings(capacity, |builder| builder).unwrap();
            (settings.segment_size, settings.large_object)
        };
        assert_eq!(of(1 << 20), (128 << 10, 32 << 10));
        assert_eq!(of(64 << 20), (4 << 20, 1 << 20));
        assert_eq!(of(10 << 30), (40 << 20, 1 << 20));
        assert_eq!(of(1 << 40), (1 << 30, 1 << 20));
    }

    #[test]
    fn s104_a_segment_size_is_told_as_it_was_set() {
        for size in [1, 4095, 131_071, u64::MAX] {
            let set = settings(64 << 20, |builder| builder.segment_size(size));
            let error = set.err().expect("it cannot work");
            let told = format!("segment_size is {size}, ");
            assert!(error.to_string().starts_with(&told), "{error}");
        }
    }

    #[test]
    fn s100_segments_fit_the_room_that_there_is() {
        const MIB: u64 = 1 << 20;
        let space = |total, free| Space {
            block: BlockSize::default(),
            total: total * MIB,
            free: free * MIB,
            lacks_inodes: false,
        };
        let fit = |capacity: u64, chosen: Option<u64>, space: Space, used: u64| {
            let mut builder = Builder::new(PathBuf::new(), capacity * MIB);
            builder.segment_size = chosen.map(|size| size * MIB);
            let mut settings = builder.settings().unwrap();
            settings.fit(&space, used * MIB, 512).unwrap();
            assert!(settings.large_object <= settings.segment_size / 4);
            (settings.segment_size, settings.capacity / MIB)
        };
        // There is room for all.
        assert_eq!(fit(256, None, space(1_000, 256), 0), (16 * MIB, 256));
        assert_eq!(fit(256, None, space(1_000, 0), 256), (16 * MIB, 256));
        assert_eq!(fit(256, None, space(0, 0), 0), (16 * MIB, 256));
        // There is not.
        assert_eq!(fit(256, None, space(32, 32), 0), (2 * MIB, 256));
        assert_eq!(fit(256, None, space(32, 16), 16), (2 * MIB, 256));
        assert_eq!(fit(256, Some(16), space(32, 32), 0), (4 * MIB, 256));
        assert_eq!(fit(256, Some(1), space(32, 32), 0), (MIB, 256));
        // There is none, and no more files may be open.
        assert_eq!(fit(256, None, space(1_000, 0), 0), (SEGMENT_MIN, 64));
        let mut settings = settings(256 * MIB, |builder| builder).unwrap();
        let tiny = Space {
            total: CAPACITY_MIN - 1,
            ..space(1, 1)
        };
        assert!(settings.fit(&tiny, 0, 512).unwrap_err().is_invalid());
    }

    #[test]
    fn senseless_settings_are_invalid() {
        let refused = |capacity, change: fn(Builder) -> Builder| {
            settings(capacity, change).is_err_and(|error| error.is_invalid())
        };
        assert!(refused(0, |builder| builder));
        assert!(refused((1 << 20) - 1, |builder| builder));
        assert!(refused(u64::MAX, |builder| builder));
        assert!(refused(1 << 30, |builder| builder.segment_size(1)));
        assert!(refused(1 << 30, |builder| builder.segment_size(1 << 30)));
        // There would be more segments than there are places for.
        assert!(refused(16 << 40, |builder| builder.segment_size(16 << 20)));
        assert!(refused(1 << 30, |builder| builder.large_object(2 << 20)));
        assert!(refused(1 << 30, |builder| builder.object_max(0)));
        assert!(refused(1 << 30, |builder| builder.object_max(1 << 30)));
        assert!(refused(1 << 30, |builder| builder.write_rate_max(0)));
        assert!(refused(1 << 30, |builder| builder.cold_reads_max(0)));
    }
}
