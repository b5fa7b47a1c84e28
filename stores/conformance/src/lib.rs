//! Tests that every store must pass.
#![allow(clippy::missing_panics_doc)] // Tests panic: it is how they say what they found.

mod faulty;
mod model;
mod runner;
mod setup;

pub use faulty::{Fault, Faults, Faulty, Op, When};
pub use model::Model;
pub use runner::run;
pub use setup::Setup;
