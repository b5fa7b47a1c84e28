//! What the benchmarks share.

use bytes::Bytes;
use futures_util::future::{Ready, ready};
use larder::{Error, Fetched};
use tokio::runtime::{Builder, Runtime};

pub(crate) const KEYS: usize = 1_000;
pub(crate) const LEN: usize = 1_024;

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

pub(crate) fn keys() -> Vec<String> {
    (0..KEYS)
        .map(|number| format!("docs/section/{number}.html"))
        .collect()
}

pub(crate) fn fetch() -> Ready<Result<Fetched, Error>> {
    ready(Ok(Fetched::bytes(Bytes::from_static(&[7; LEN]))))
}
