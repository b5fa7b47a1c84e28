//! Panics of the store's own threads, which would otherwise go unseen.

use std::{
    panic,
    sync::{Mutex, Once, PoisonError},
};

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes every panic of a thread of a store from here on, of whatever test it is.
pub(super) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("");
            let is_ours = info
                .location()
                .is_some_and(|at| at.file().contains("tests"));
            // Reads and writes of blobs are done by the runtime's threads.
            if (name.starts_with("larder-") || name.starts_with("tokio-")) && !is_ours {
                let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push(format!("{name}: {info}"));
            }
            usual(info);
        }));
    });
}

pub(super) fn none() {
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(seen.is_empty(), "{seen:?}");
}
