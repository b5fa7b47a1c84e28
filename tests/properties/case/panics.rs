//! Panics that were ordered, and others.
//!
//! The engine survives a panic in a task of its own and gives an error, so that nobody would see
//! it. Here each one that was not injected counts.

use std::{
    panic::{self, PanicHookInfo},
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
};

/// How the origin's panics begin, as those of a faulty store begin with `injected into`.
pub(crate) const ORIGIN: &str = "the origin panics";

static SEEN: AtomicU64 = AtomicU64::new(0);

/// The panics of this process so far that nobody ordered. From the first call on the ordered ones
/// say nothing.
pub(crate) fn seen() -> u64 {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !is_ordered(info) {
                SEEN.fetch_add(1, Ordering::Relaxed);
                usual(info);
            }
        }));
    });
    SEEN.load(Ordering::Relaxed)
}

fn is_ordered(info: &PanicHookInfo<'_>) -> bool {
    let payload = info.payload();
    let message = match payload.downcast_ref::<String>() {
        Some(message) => message.as_str(),
        None => payload.downcast_ref::<&str>().copied().unwrap_or_default(),
    };
    message.starts_with("injected into") || message.starts_with(ORIGIN)
}
