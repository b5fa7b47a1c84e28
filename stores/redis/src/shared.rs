//! What the handles, writers and bodies of one store share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use larder_store::{Error, Header, Result};
use redis::{Cmd, FromRedisValue};
use tokio::sync::Notify;

use crate::{
    config::Settings,
    fence::Token,
    home::Home,
    link::{Link, Script},
    names::{Names, Place},
    nonce::Nonces,
};

pub(crate) struct Shared {
    pub(crate) link: Link,
    pub(crate) names: Names,
    pub(crate) settings: Settings,
    pub(crate) nonces: Nonces,
    /// Where operations are polled, and what a dropped writer leaves is cleaned up.
    pub(crate) home: Home,
    /// Bytes that open writers have taken.
    pub(crate) staged: AtomicU64,
    closed: AtomicBool,
    /// Wakes those who wait for the close.
    closing: Notify,
}

/// How long an object has yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Forever,
    /// In milliseconds, not zero.
    For(u64),
    Nothing,
}

/// A time to live that is longer than this, about three thousand years, is none: the server adds
/// it to its own time, in 63 bits.
const LEFT_MAX: u64 = 100_000_000_000_000;

impl Shared {
    pub(crate) fn new(
        link: Link,
        names: Names,
        settings: Settings,
        seed: Option<u64>,
    ) -> Arc<Self> {
        Arc::new(Self {
            link,
            names,
            settings,
            nonces: Nonces::new(seed),
            home: Home::here(),
            staged: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        })
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed("the redis store"));
        }
        Ok(())
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.closing.notify_waiters();
        self.link.close();
    }

    /// Returns once the store is closed.
    pub(crate) async fn closed(&self) {
        let closing = self.closing.notified();
        if self.check_open().is_ok() {
            closing.await;
        }
    }

    /// Asks for something that changes nothing.
    pub(crate) async fn read<T: FromRedisValue>(&self, place: &Place, command: &Cmd) -> Result<T> {
        self.link.read(place.hash(), command).await
    }

    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        place: &Place,
        script: &Script,
        keys: &[&[u8]],
        args: &[&[u8]],
    ) -> Result<T> {
        self.link.run(place.hash(), script, keys, args).await
    }

    /// The value under a name, `None` where there is none.
    pub(crate) async fn get(&self, place: &Place, name: &[u8]) -> Result<Option<Bytes>> {
        let mut command = Cmd::with_capacity(2, name.len() + 3);
        command.arg("GET").arg(name);
        self.read(place, &command).await
    }

    /// How long an object with this header has yet. The clock is only asked if it expires at all.
    pub(crate) fn left(&self, header: &Header) -> Left {
        let Some(at) = header.expires_at else {
            return Left::Forever;
        };
        let left = at
            .as_millis()
            .saturating_sub((self.settings.clock)().as_millis());
        match left {
            0 => Left::Nothing,
            1..=LEFT_MAX => Left::For(left),
            _ => Left::Forever,
        }
    }

    pub(crate) fn is_expired(&self, header: &Header) -> bool {
        self.left(header) == Left::Nothing
    }

    /// The grace, as the scripts take it.
    pub(crate) fn grace(&self) -> Vec<u8> {
        millis(self.settings.grace)
    }
}

impl Left {
    /// As the scripts take it.
    pub(crate) fn argument(self) -> Vec<u8> {
        match self {
            Self::Forever => Vec::new(),
            Self::For(millis) => millis.to_string().into_bytes(),
            Self::Nothing => b"0".to_vec(),
        }
    }
}

/// A time in milliseconds, as the server takes it.
pub(crate) fn millis(time: std::time::Duration) -> Vec<u8> {
    time.as_millis().to_string().into_bytes()
}

/// The arguments that a fence is for a script: its nonce and its lease's token, empty for none.
pub(crate) fn required(fence: Option<&Token>) -> [&[u8]; 2] {
    match fence {
        Some(token) => [
            token.marker.as_bytes(),
            token.lease.as_ref().map_or(&[], |lease| lease.as_bytes()),
        ],
        None => [&[], &[]],
    }
}
