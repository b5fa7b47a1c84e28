//! The one place that asks for the time.

use std::sync::Arc;

use larder_store::Timestamp;

/// Tells the time; only entries with a hard expiry make the store ask.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The clock of the system.
pub(crate) fn wall() -> Clock {
    #[allow(clippy::disallowed_methods)] // The default of what can be injected.
    Arc::new(Timestamp::now)
}
