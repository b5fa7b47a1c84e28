//! What goes wrong around a Redis store: with readers, writers and processes that are slow or die,
//! and with a server that forgets.
#![allow(clippy::unwrap_used)] // Of a test, and it says where.

#[cfg(feature = "cluster")]
mod cluster;
mod common;
mod elsewhere;
mod expiry;
mod fences;
mod late;
mod leases;
mod leftovers;
mod planted;
mod pressure;
mod reading;
mod writing;
