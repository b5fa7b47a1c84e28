//! Larder beside other caches: the same work, in the same run, on the same machine.
//!
//! [`run`] is the program; it reads its arguments, runs the cases that they name and prints, for
//! each, the median of every peer, its ratio to Larder, and whether the budget beside it is met.
//! Absolute figures are worth little on a shared machine; the ratios hold, and CPU time holds
//! better than wall time.
//!
//! - [`cases`] says what is done, one file each; a new family of cases is a new folder there.
//! - [`peers`] says to whom, behind one small trait.
//! - [`budgets`] says how fast it should be.

pub mod allocations;
pub mod budgets;
pub mod cases;
pub mod child;
pub mod data;
pub mod folder;
pub mod jobs;
pub mod keys;
pub mod measure;
pub mod options;
pub mod peers;
pub mod program;
pub mod report;
pub mod workload;

pub use program::run;
