//! Panics of any thread, also of those whose end nobody looks at.

use std::{
    panic,
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
};

static SEEN: AtomicU64 = AtomicU64::new(0);

/// Counts panics from here on.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            SEEN.fetch_add(1, Ordering::Relaxed);
            usual(info);
        }));
    });
}

/// # Panics
///
/// Where anything has.
#[allow(dead_code)] // The fuzz target ends at the first.
pub(crate) fn none() {
    assert_eq!(SEEN.load(Ordering::Relaxed), 0, "a thread has panicked");
}
