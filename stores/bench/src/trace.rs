//! Keys as somebody's service once asked for them.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

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
            let decoder = ruzstd::decoding::StreamingDecoder::new(file);
            let decoder = decoder.map_err(io::Error::other)?;
            return Self::read(decoder);
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
            if from.by_ref().take(LINE_MAX).read_line(&mut line)? == 0 {
                break;
            }
            let text = line.trim();
            if text.is_empty() {
                continue;
            }
            let (key, size) = parse(text)
                .ok_or_else(|| io::Error::other(format!("line {number} is no key and size")))?;
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
    fn tells_the_line_that_is_wrong() {
        let error = Trace::read("a,1\nb,x\n".as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "line 2 is no key and size");
        assert!(Trace::read("\n\n".as_bytes()).is_err(), "empty");
    }
}
