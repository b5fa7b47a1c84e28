//! Settings.

/// The settings in force.
pub(crate) struct Settings {}
