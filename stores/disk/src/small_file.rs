//! Files of a few lines that are read and replaced whole.

use std::{io, path::Path};

use crate::medium::Medium;

/// No such file is longer.
pub(crate) const LEN_MAX: usize = 4096;

/// The bytes of a file, at most [`LEN_MAX`] of them; `None` where there is no such file.
pub(crate) fn read(medium: &Medium, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match medium.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let len = usize::try_from(file.len()?).unwrap_or(LEN_MAX);
    let mut bytes = vec![0; len.min(LEN_MAX)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}

/// Puts a file in the place of what is there. When power fails, one of the two is there, whole.
pub(crate) fn replace(medium: &Medium, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    medium.remove(&temporary)?;
    let file = medium.create(&temporary)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    medium.rename(&temporary, path)?;
    medium.sync_dir("".as_ref())
}

/// Whether this is a file that was being written, and has no name yet.
pub(crate) fn is_temporary(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tmp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let medium = Medium::new(folder.path());
        let path = Path::new("FILE");
        assert_eq!(read(&medium, path).unwrap(), None);
        for bytes in [&b"one"[..], b"", b"three"] {
            replace(&medium, path, bytes).unwrap();
            assert_eq!(read(&medium, path).unwrap().unwrap(), bytes);
        }
        assert_eq!(medium.list("".as_ref()).unwrap(), ["FILE"]);
    }

    #[test]
    fn of_a_long_file_only_a_part_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let medium = Medium::new(folder.path());
        let path = Path::new("FILE");
        replace(&medium, path, &[1; LEN_MAX + 1]).unwrap();
        assert_eq!(read(&medium, path).unwrap().unwrap().len(), LEN_MAX);
    }
}
