//! The engine through its public API.

mod smoke;
mod support;
