//! Panics that were ordered, and others.
//!
//! The engine survives a panic in a task of its own and gives an error, so that nobody would see
//! it. Here each one that was not injected counts.

use std::{
    cell::Cell,
    panic::{self, PanicHookInfo},
    sync::Once,
};

/// How the origin's panics begin, as those of a faulty store begin with `injected into`.
pub(crate) const ORIGIN: &str = "the origin panics";

thread_local! {
    /// A run and its tasks have one thread. The panics of others are for other tests.
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// The panics of this thread so far that nobody ordered. From the first call on the ordered ones
/// say nothing.
pub(crate) fn seen() -> u64 {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !is_ordered(info) {
                SEEN.set(SEEN.get() + 1);
                usual(info);
            }
        }));
    });
    SEEN.get()
}

fn is_ordered(info: &PanicHookInfo<'_>) -> bool {
    let payload = info.payload();
    let message = match payload.downcast_ref::<String>() {
        Some(message) => message.as_str(),
        None => payload.downcast_ref::<&str>().copied().unwrap_or_default(),
    };
    message.starts_with("injected into") || message.starts_with(ORIGIN)
}
