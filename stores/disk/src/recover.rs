//! What a store finds when it is opened.
//
// Invariants:
// 1. Per hash the record with the greatest sequence number counts, tombstones included. A snapshot
//    stands for all records with numbers below its boundary, so only the others are replayed.
// 2. Nothing that a file says is taken for true before its checksum; no length that a file names is
//    allocated before it was compared with the length of the file.
// 3. Damage costs what is damaged: it never ends the start. What cannot be read at all does, since
//    what it voids would be found again without it.
// 4. What a segment may have voided that is lost does not count: see `recover::lost`.

mod lost;

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use larder_store::Result;

use crate::{
    blobs::{self, Blob},
    index::Index,
    layout::Folder,
    manifest::{Left, Manifest},
    medium::Medium,
    record::{BlobName, Head},
    reopen::{self, Reopened, discard, unavailable},
    replay::{Commit, Replay},
    segment::{FooterPlace, Segment, Segments},
    small_file::is_temporary,
    snapshot::{self, Snapshot},
};

/// All that was found.
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) segments: Segments,
    /// Those whose file does not end with a footer: they are to be sealed.
    pub(crate) unsealed: Vec<Arc<Segment>>,
    pub(crate) manifest: Manifest,
    /// The blobs that the index names, the oldest first.
    pub(crate) blobs: Vec<Arc<Blob>>,
    /// Above every number that any file names.
    pub(crate) next_sequence: u64,
    /// Bytes of all files that count.
    pub(crate) used: u64,
    /// Which of the two snapshots is to be written next, and under which number.
    pub(crate) next_snapshot: u64,
}

/// Numbers of records and files are smaller: greater ones were not drawn by a store.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;
/// No blob is longer.
pub(crate) const BLOB_LEN_MAX: u64 = 1 << 50;
/// More than a store draws in the last moments before it is killed, as versions that callers saw
/// and that no file names.
const GAP: u64 = 1 << 20;

/// Reads snapshots, footers and tails, and removes what nothing names.
pub(crate) fn recover(
    medium: &Medium,
    folder: &Folder,
    detached: &Arc<AtomicU64>,
) -> Result<Recovered> {
    if folder.after_power_loss {
        tracing::info!("the store was not closed before the machine was started anew");
    }
    sweep(medium)?;
    let ids = reopen::ids(medium)?;
    let (segments, mut found) = reopen::segments(medium, &ids, &folder.store_id, detached)?;
    let files = blob_files(medium)?;
    let snapshots = snapshots(medium, &folder.store_id);
    let mut next_snapshot = 0;
    for snapshot in &snapshots {
        next_snapshot = next_snapshot.max(snapshot.number.wrapping_add(1));
    }
    let mut greatest = Greatest(0);
    greatest.note_all(ids.iter().copied());
    greatest.note_all(found.iter().map(|reopened| reopened.max_sequence));
    greatest.note_all(files.iter().copied());
    greatest.note_all(snapshots.iter().map(|snapshot| snapshot.next_sequence));
    greatest.note_all(folder.known.numbers());
    let next_sequence = greatest.0 + GAP;
    let floor = lost::floor(&folder.known, &found, next_sequence);
    let base = Base {
        medium,
        segments: &segments,
        files: &files,
        floor,
    };
    let (index, replay) = base.begin(snapshots, &mut found)?;
    let commits = replay.merge(&index);
    base.name(commits, &index)?;
    let left = Left {
        boot: folder.boot.clone(),
        known: lost::known(&found, floor),
    };
    let manifest = Manifest::new(&folder.store_id, left);
    let saved = manifest.save(medium);
    saved.map_err(|error| unavailable("cannot write to the store's folder", error))?;

    let blobs = base.sweep_blobs(&index);
    let kept = segments.all();
    let bytes = kept.iter().map(|segment| segment.allocated());
    let bytes = bytes.chain(blobs.iter().map(|blob| blob.room()));
    let used = bytes.fold(0_u64, u64::saturating_add);
    let is_unsealed = |segment: &Arc<Segment>| matches!(segment.footer(), FooterPlace::Memory(_));
    Ok(Recovered {
        index,
        unsealed: kept.into_iter().filter(is_unsealed).collect(),
        segments,
        blobs,
        manifest,
        next_sequence,
        used,
        next_snapshot,
    })
}

/// The greatest number that was seen.
struct Greatest(u64);

impl Greatest {
    fn note(&mut self, number: u64) {
        if number < NUMBER_MAX {
            self.0 = self.0.max(number);
        }
    }

    fn note_all(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.note(number);
        }
    }
}

/// Removes what was not finished.
fn sweep(medium: &Medium) -> Result<()> {
    let names = medium.list("".as_ref());
    let names = names.map_err(|error| unavailable("cannot list the store's folder", error))?;
    for path in names.iter().map(Path::new) {
        if is_temporary(path) {
            discard(medium, path, "was not finished");
        }
    }
    Ok(())
}

/// The snapshots that seem to be this store's, the newest first; others are removed.
fn snapshots(medium: &Medium, store_id: &[u8; 16]) -> Vec<Snapshot> {
    let mut found = Vec::new();
    for parity in [0, 1] {
        match Snapshot::open(medium, store_id, parity) {
            Ok(Some(snapshot)) => found.push(snapshot),
            Ok(None) => discard(
                medium,
                snapshot::path(parity),
                "is no snapshot of this store",
            ),
            Err(error) => tracing::warn!(%error, "cannot read a snapshot"),
        }
    }
    found.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.number));
    found
}

/// The numbers of the blobs' files.
fn blob_files(medium: &Medium) -> Result<HashSet<u64>> {
    let list = |folder: &Path| {
        let names = medium.list(folder);
        names.map_err(|error| unavailable("cannot list the blobs", error))
    };
    let mut ids = HashSet::new();
    for folder in list("blob".as_ref())? {
        if folder.len() != 2 {
            tracing::warn!(folder, "there is something foreign among the blobs");
            continue;
        }
        let folder = PathBuf::from("blob").join(folder);
        for name in list(&folder)? {
            let path = folder.join(&name);
            match blobs::id(&path) {
                Some(id) => _ = ids.insert(id),
                None if is_temporary(&path) => discard(medium, &path, "was not finished"),
                None => tracing::warn!(file = %path.display(), "there is something foreign"),
            }
        }
    }
    Ok(ids)
}

/// What the index is made from.
struct Base<'a> {
    medium: &'a Medium,
    segments: &'a Segments,
    /// The blobs that have a file.
    files: &'a HashSet<u64>,
    /// Records with smaller numbers count only in a snapshot that accounts for all of them.
    floor: u64,
}

impl Base<'_> {
    /// The newest snapshot that can be trusted, and what is to be replayed after it.
    fn begin(&self, snapshots: Vec<Snapshot>, found: &mut [Reopened]) -> Result<(Index, Replay)> {
        for snapshot in snapshots {
            if snapshot.boundary < self.floor {
                // What is lost may have voided any of it.
                continue;
            }
            match snapshot.load(self.segments, self.files) {
                Ok(Some(index)) => return Ok((index, Self::replay(snapshot.boundary, found)?)),
                Ok(None) => tracing::warn!("a snapshot is damaged"),
                Err(error) => tracing::warn!(%error, "cannot read a snapshot"),
            }
            discard(self.medium, snapshot::path(snapshot.number), "is damaged");
        }
        Ok((Index::new(), Self::replay(self.floor, found)?))
    }

    /// All records with numbers from the boundary on.
    fn replay(boundary: u64, found: &mut [Reopened]) -> Result<Replay> {
        let mut replay = Replay::new(boundary);
        for reopened in found {
            if reopened.max_sequence >= replay.boundary() {
                let footer = reopened.footer();
                let footer = footer.map_err(|error| unavailable("cannot read a segment", error))?;
                replay.add(reopened.segment.slot, &footer.entries);
            }
        }
        Ok(replay)
    }

    /// Adds the entries of blobs, once their records have told their files.
    fn name(&self, mut commits: Vec<Commit>, index: &Index) -> Result<()> {
        commits.sort_unstable_by_key(|commit| {
            let place = commit.word.place();
            (place.slot, place.offset)
        });
        for commit in commits {
            let name = self.blob_name(&commit)?;
            let name =
                name.filter(|name| self.files.contains(&name.id) && name.len <= BLOB_LEN_MAX);
            if let Some(BlobName { id, len }) = name {
                let blob = Arc::new(Blob::new(id, commit.hash, len, self.medium.block()));
                index.write(commit.hash).put(commit.word, Some(blob));
            } else if commit.word.is_shadow() {
                // Its record still voids older ones, until its segment goes.
                index.write(commit.hash).set_unvoided();
            }
        }
        Ok(())
    }

    /// The file that a record names; `None` where the record is damaged.
    fn blob_name(&self, commit: &Commit) -> Result<Option<BlobName>> {
        let place = commit.word.place();
        let Some(segment) = self.segments.get(place.slot) else {
            return Ok(None);
        };
        let mut bytes = vec![0; place.len()];
        let read = segment.file.read_exact_at(&mut bytes, place.start());
        read.map_err(|error| unavailable("cannot read a segment", error))?;
        let head = Head::parse(&bytes, segment.seed);
        let head = head.filter(|head| {
            head.header.hash == commit.hash && head.header.sequence == commit.sequence
        });
        Ok(head.and_then(|head| head.blob()))
    }

    /// Removes the files that no entry names; gives the blobs of the others, the oldest first.
    fn sweep_blobs(&self, index: &Index) -> Vec<Arc<Blob>> {
        let mut blobs = index.blobs();
        blobs.sort_unstable_by_key(|blob| blob.id);
        let named: HashSet<u64> = blobs.iter().map(|blob| blob.id).collect();
        for id in self.files.difference(&named) {
            discard(self.medium, &blobs::path(*id), "no object names");
        }
        let kept: HashSet<u64> = named.iter().map(|id| id & 0xff).collect();
        for number in (0..=0xff).filter(|number| !kept.contains(number)) {
            self.medium.remove_if_empty(&blobs::folder(number));
        }
        blobs
    }
}

#[cfg(test)]
mod tests;
