//! The store's folder: what makes it one, and who may have it open.

use larder_store::Result;

use crate::{config::Settings, medium::Medium};

/// A folder that is this store's and no other process's.
pub(crate) struct Folder {
    pub(crate) store_id: [u8; 16],
    /// Whether it was left by a machine that was started anew without closing it.
    pub(crate) after_power_loss: bool,
}

impl Folder {
    /// Makes or opens the folder, and locks it.
    pub(crate) fn open(medium: &Medium, settings: &Settings) -> Result<Self> {
        let _ = (medium, settings);
        todo!()
    }

    /// Notes that the store was closed in order.
    pub(crate) fn close(&self, medium: &Medium) -> Result<()> {
        let _ = medium;
        todo!()
    }
}
