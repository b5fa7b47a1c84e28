//! The disk store of the Larder cache.

mod blobs;
mod buffer;
mod config;
#[cfg(test)]
mod faults;
mod figures;
mod flusher;
mod footer;
mod index;
mod keeper;
mod layout;
mod listing;
mod log;
mod medium;
mod reader;
mod record;
mod recover;
mod room;
mod sealer;
mod segment;
mod segment_header;
mod snapshot;
mod store;
mod varint;
mod volume;
mod writer;

pub use config::{Admission, AfterPowerLoss, Builder, Durability, Overload, PageCache};
pub use figures::Figures;
pub use store::Disk;
