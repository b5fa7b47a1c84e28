//! What a server prints: when it is ready, and why it is not.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, PipeReader},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

/// The last lines of it that are kept.
const LINES_MAX: usize = 100;

/// The end of a server's output, which a thread of its own reads until the server ends.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    /// Begins to read. The receiver hears once that the server is ready, and is closed when the
    /// output ends.
    pub(crate) fn read(output: PipeReader) -> (Self, mpsc::Receiver<()>) {
        let log = Self(Arc::default());
        let (ready, heard) = mpsc::channel();
        let lines = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                // Nobody may listen any more.
                if line.contains("Ready to accept connections") {
                    let _ = ready.send(());
                }
                lines.push(line);
            }
        });
        (log, heard)
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The lines that are kept, as one text.
    pub(crate) fn text(&self) -> String {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.make_contiguous().join("\n")
    }
}
