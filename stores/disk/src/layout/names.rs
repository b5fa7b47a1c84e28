//! The names that a store gives to files, to tell its folder from another.

use std::{io, path::Path};

use super::{FORMAT, LOCK};
use crate::{blobs, manifest, medium::Medium, segment, small_file::is_temporary, snapshot};

/// File systems put this at their root.
const LOST_AND_FOUND: &str = "lost+found";

/// Something in the folder that no store has put there, if there is.
pub(super) fn stranger(medium: &Medium) -> io::Result<Option<String>> {
    for name in medium.list("".as_ref())? {
        let path = Path::new(&name);
        let found = match &*name {
            LOST_AND_FOUND => None,
            "seg" => within(medium, path, is_segment)?,
            "blob" => within_blobs(medium, path)?,
            _ => (!is_file(path) || medium.is_folder(path)?).then_some(name),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// As [`stranger`], in this folder, where all are files.
fn within(
    medium: &Medium,
    folder: &Path,
    is_ours: fn(&Path) -> bool,
) -> io::Result<Option<String>> {
    if !medium.is_folder(folder)? {
        return Ok(Some(folder.display().to_string()));
    }
    let names = medium.list(folder)?.into_iter();
    let mut strangers = names.map(|name| folder.join(name));
    let stranger = strangers.find(|path| !is_ours(path) && !is_temporary(path));
    Ok(stranger.map(|path| path.display().to_string()))
}

fn within_blobs(medium: &Medium, folder: &Path) -> io::Result<Option<String>> {
    if !medium.is_folder(folder)? {
        return Ok(Some(folder.display().to_string()));
    }
    for name in medium.list(folder)? {
        let inner = folder.join(name);
        let stranger = within(medium, &inner, is_blob)?;
        if stranger.is_some() {
            return Ok(stranger);
        }
    }
    Ok(None)
}

fn is_file(path: &Path) -> bool {
    let files = [LOCK, FORMAT, manifest::NAME].map(Path::new);
    let all = files.into_iter().chain([0, 1].map(snapshot::path));
    let mut names = all.chain([Path::new("index.snap")]);
    names.any(|name| path == name || path == name.with_extension("tmp"))
}

fn is_segment(path: &Path) -> bool {
    segment::id(path).is_some()
}

fn is_blob(path: &Path) -> bool {
    blobs::id(path).is_some()
}
