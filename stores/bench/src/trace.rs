//! Keys as somebody's service once asked for them.

use std::{
    collections::HashMap,
    fmt::Display,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use larder_store::Key;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// A recorded sequence of keys.
///
/// A file has one key a line, and after a comma, a tab or a space its size in bytes if that is
/// known. A key that comes again keeps the size that it had first. Files that end in `.zst` are
/// decompressed.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    keys: Vec<String>,
    sizes: Vec<Option<u64>>,
    /// The sequence, by the number of the key.
    order: Vec<u32>,
}

/// The longest line that is read.
const LINE_MAX: u64 = 64 << 10;

impl Trace {
    /// Reads a trace file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if path.extension().is_some_and(|end| end == "zst") {
            return Self::read(Frames::new(file));
        }
        Self::read(file)
    }

    /// Reads a trace from its text.
    pub fn read(from: impl Read) -> io::Result<Self> {
        let mut from = BufReader::with_capacity(1 << 20, from);
        let mut trace = Self::default();
        let mut numbers = HashMap::new();
        let mut line = String::new();
        for number in 1_u64.. {
            line.clear();
            let wrong = |why: &dyn Display| io::Error::other(format!("line {number} {why}"));
            let read = from.by_ref().take(LINE_MAX).read_line(&mut line);
            match read.map_err(|error| wrong(&format_args!("cannot be read: {error}")))? {
                0 => break,
                len if len as u64 == LINE_MAX => return Err(wrong(&"is too long")),
                _ => {}
            }
            let text = line.trim();
            if text.is_empty() {
                continue;
            }
            let (key, size) = parse(text).ok_or_else(|| wrong(&"is no key and size"))?;
            Key::new(key).map_err(|error| wrong(&format_args!("is refused: {error}")))?;
            trace.push(&mut numbers, key, size)?;
        }
        if trace.order.is_empty() {
            return Err(io::Error::other("there is no key in it"));
        }
        Ok(trace)
    }

    fn push(
        &mut self,
        numbers: &mut HashMap<String, u32>,
        key: &str,
        size: Option<u64>,
    ) -> io::Result<()> {
        let number = match numbers.get(key) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.keys.len());
                let number = number.map_err(|_| io::Error::other("there are too many keys"))?;
                numbers.insert(key.to_owned(), number);
                self.keys.push(key.to_owned());
                self.sizes.push(size);
                number
            }
        };
        self.order.push(number);
        Ok(())
    }

    /// The keys, each once, in the order in which they first came.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The size of each key, where the trace has one.
    pub fn sizes(&self) -> &[Option<u64>] {
        &self.sizes
    }

    /// The requests, as indices into [`keys`](Self::keys).
    pub fn order(&self) -> &[u32] {
        &self.order
    }
}

/// A key and its size; `None` where there is something behind the key that is no size.
fn parse(line: &str) -> Option<(&str, Option<u64>)> {
    match line.rsplit_once([',', '\t', ' ']) {
        None => Some((line, None)),
        Some((key, size)) => {
            let size = size.trim().parse().ok()?;
            let key = key.trim_end_matches([',', '\t', ' ']);
            (!key.is_empty()).then_some((key, Some(size)))
        }
    }
}

/// What a zstd file holds: its frames, one after the other, as parallel compressors write them.
struct Frames {
    file: Option<BufReader<File>>,
    frame: Option<StreamingDecoder<BufReader<File>, FrameDecoder>>,
}

impl Frames {
    fn new(file: File) -> Self {
        Self {
            file: Some(BufReader::with_capacity(1 << 16, file)),
            frame: None,
        }
    }
}

impl Read for Frames {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                match frame.read(buf)? {
                    0 => self.file = self.frame.take().map(StreamingDecoder::into_inner),
                    len => return Ok(len),
                }
            }
            let Some(mut file) = self.file.take() else {
                return Ok(0);
            };
            if file.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let frame = StreamingDecoder::new(file);
            self.frame = Some(frame.map_err(io::Error::other)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_keys_with_and_without_sizes() {
        let text = "a,10\nb\na,99\n\nc d\t7\n";
        let trace = Trace::read(text.as_bytes()).unwrap();
        assert_eq!(trace.keys(), ["a", "b", "c d"]);
        assert_eq!(trace.sizes(), [Some(10), None, Some(7)]);
        assert_eq!(trace.order(), [0, 1, 0, 2]);
    }

    #[test]
    fn reads_every_frame() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.zst");
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let frame = |text: &str| ruzstd::encoding::compress_to_vec(text.as_bytes(), level);
        std::fs::write(&path, [frame("a,1\nb,2\na"), frame(",3\nc,4\n")].concat()).unwrap();
        let trace = Trace::open(&path).unwrap();
        assert_eq!(trace.keys(), ["a", "b", "c"]);
        assert_eq!(trace.order(), [0, 1, 0, 2]);
        std::fs::write(&path, "a,1\n").unwrap();
        assert!(Trace::open(&path).is_err(), "not compressed");
    }

    #[test]
    fn refuses_what_is_no_key_and_what_has_no_end() {
        let long = format!("a\n{}\n", "k".repeat(5_000));
        let error = Trace::read(long.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("line 2 is refused"), "{error}");
        let error = Trace::read("k".repeat(70_000).as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "line 1 is too long");
        let error = Trace::read(&b"a\n\xff\n"[..]).unwrap_err().to_string();
        assert!(error.starts_with("line 2 cannot be read"), "{error}");
    }

    #[test]
    fn tells_the_line_that_is_wrong() {
        let error = Trace::read("a,1\nb,x\n".as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "line 2 is no key and size");
        assert!(Trace::read("\n\n".as_bytes()).is_err(), "empty");
    }
}
