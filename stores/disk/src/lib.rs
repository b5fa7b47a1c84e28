//! The disk store of the Larder cache.

mod account;
mod admission;
mod blob_reader;
mod blob_table;
mod blob_writer;
mod blobs;
mod blocks;
mod body;
mod budget;
mod buffer;
#[cfg(test)]
mod by_hand;
mod config;
mod evict;
#[cfg(test)]
mod faults;
mod fetch;
mod figures;
mod flusher;
mod footer;
mod ghost;
mod health;
mod index;
mod inspect;
mod keeper;
mod layout;
mod listing;
mod log;
mod medium;
mod reader;
mod reclaim;
mod record;
mod recover;
mod reopen;
mod replay;
mod room;
mod scan;
mod sealer;
mod segment;
mod segment_header;
mod small_file;
mod snapshot;
mod staging;
mod store;
#[cfg(test)]
mod tests;
mod trail;
mod trailer;
mod triage;
mod varint;
mod victims;
mod volume;
mod writer;

pub use config::{Admission, AfterPowerLoss, Builder, Durability, Overload, PageCache};
pub use figures::Figures;
pub use inspect::{InspectedObject, InspectedSegment, Inspection, Problem, inspect};
pub use store::Disk;
