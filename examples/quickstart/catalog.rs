//! What there is to serve, and what each body must be.

use std::{
    fmt::{self, Write},
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{noise::Noise, options::Options};

/// Everything that the origin serves.
pub(crate) struct Catalog {
    /// The files below the folder.
    pub(crate) files: Vec<Arc<Item>>,
    /// One that is larger than the cache's memory.
    pub(crate) large: Arc<Item>,
    /// One that nobody has read when a thousand tasks ask for it.
    pub(crate) popular: Arc<Item>,
}

/// One object of the origin.
pub(crate) struct Item {
    /// Its path at the origin with its digest as the query, which is also its key in the cache: a
    /// file that has changed is another object, and so is its namesake in another folder.
    pub(crate) path: String,
    pub(crate) content: Content,
    /// What a reader must get; taken from the content before anything is served.
    pub(crate) digest: Digest,
}

pub(crate) enum Content {
    File(PathBuf),
    Noise { seed: u64 },
}

/// The length and the checksum of a body.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Digest {
    pub(crate) len: u64,
    pub(crate) crc: u32,
}

const POPULAR_LEN: u64 = 256 << 10;

impl Catalog {
    /// Walks the folder and reads everything once. The error is a message for the user.
    pub(crate) async fn load(options: &Options) -> Result<Self, String> {
        let (dir, large) = (options.dir.clone(), options.large);
        // What the cache writes is not what it is to serve.
        let disk = options.disk.as_ref();
        let skip = disk.and_then(|disk| disk.canonicalize().ok());
        tokio::task::spawn_blocking(move || Self::scan(&dir, large, skip.as_deref()))
            .await
            .map_err(|error| format!("cannot read the folder: {error}"))?
    }

    fn scan(dir: &Path, large: u64, skip: Option<&Path>) -> Result<Self, String> {
        if !fs::metadata(dir)
            .map_err(|error| cannot("read", dir, &error))?
            .is_dir()
        {
            return Err(format!("`{}` is not a folder", dir.display()));
        }
        let mut paths = Vec::new();
        walk(dir, skip, &mut paths)?;
        if paths.is_empty() {
            return Err(format!("there are no files below `{}`", dir.display()));
        }
        paths.sort();
        let files = paths
            .into_iter()
            .map(|path| Item::file(dir, path).map(Arc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            files,
            large: Arc::new(Item::noise("large", 1, large)),
            popular: Arc::new(Item::noise("popular", 2, POPULAR_LEN)),
        })
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = &Arc<Item>> {
        self.files.iter().chain([&self.large, &self.popular])
    }
}

impl Item {
    fn file(dir: &Path, path: PathBuf) -> Result<Self, String> {
        let name = path.strip_prefix(dir).unwrap_or(&path);
        let digest = digest_file(&path).map_err(|error| cannot("read", &path, &error))?;
        Ok(Self {
            path: format!("/files/{}?{digest}", percent_encode(name)),
            digest,
            content: Content::File(path),
        })
    }

    fn noise(name: &str, seed: u64, len: u64) -> Self {
        let mut digest = Digest::default();
        for chunk in Noise::new(seed, len) {
            digest.add(&chunk);
        }
        Self {
            path: format!("/noise/{name}?{digest}"),
            content: Content::Noise { seed },
            digest,
        }
    }

    /// A strong validator: it follows the content.
    pub(crate) fn etag(&self) -> String {
        format!("\"{}\"", self.digest)
    }
}

impl Digest {
    pub(crate) fn add(&mut self, chunk: &[u8]) {
        self.len += chunk.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, chunk);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:08x}", self.len, self.crc)
    }
}

/// Collects the files below a folder; symbolic links are not followed.
fn walk(dir: &Path, skip: Option<&Path>, paths: &mut Vec<PathBuf>) -> Result<(), String> {
    if skip.is_some() && dir.canonicalize().ok().as_deref() == skip {
        return Ok(());
    }
    let entries = fs::read_dir(dir).map_err(|error| cannot("list", dir, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| cannot("list", dir, &error))?;
        let path = entry.path();
        let kind = entry
            .file_type()
            .map_err(|error| cannot("read", &path, &error))?;
        if kind.is_file() {
            paths.push(path);
        } else if kind.is_dir() && entry.file_name() != "target" && entry.file_name() != ".git" {
            walk(&path, skip, paths)?;
        }
    }
    Ok(())
}

fn digest_file(path: &Path) -> std::io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut digest = Digest::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest),
            len => digest.add(&buffer[..len]),
        }
    }
}

/// The name as a path in a URL, whatever its bytes are. No two names give the same path.
fn percent_encode(name: &Path) -> String {
    let mut encoded = String::new();
    for byte in name.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(*byte));
            }
            _ => write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail"),
        }
    }
    encoded
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {what} `{}`: {error}", path.display())
}
