//! The origin: slow pages that have versions, and a count of who asked.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::StatusCode;

use crate::web;

/// How long the origin thinks.
pub(crate) const DELAY: Duration = Duration::from_millis(50);

#[derive(Clone, Default)]
pub(crate) struct Origin(Arc<Mutex<HashMap<String, Asked>>>);

#[derive(Clone, Copy, Default)]
struct Asked {
    fetches: u64,
    version: u64,
}

impl Origin {
    pub(crate) async fn start(&self) -> io::Result<SocketAddr> {
        let origin = self.clone();
        web::serve(move |_, path| {
            let origin = origin.clone();
            async move {
                let version = origin.change(&path, |asked| {
                    asked.fetches += 1;
                    asked.version
                });
                tokio::time::sleep(DELAY).await;
                let line = format!("{path} version {version}\n");
                web::answer(StatusCode::OK, "origin", line.repeat(4096 / line.len()))
            }
        })
        .await
    }

    fn change<T>(&self, path: &str, change: impl FnOnce(&mut Asked) -> T) -> T {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(pages.entry(path.to_owned()).or_default())
    }

    /// Changes a page.
    pub(crate) fn publish(&self, path: &str) -> u64 {
        self.change(path, |asked| {
            asked.version += 1;
            asked.version
        })
    }

    /// Fetches in all, and the most of one page.
    pub(crate) fn fetches(&self) -> (u64, u64) {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_each = || pages.values().map(|asked| asked.fetches);
        (of_each().sum(), of_each().max().unwrap_or_default())
    }
}
