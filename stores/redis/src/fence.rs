//! Fences: a marker in the server for each key that somebody means to replace.
//!
//! A marker is a nonce with a time to live. Whoever wants a fence while there is one shares it.
//! Each commit, touch and delete removes it, in the same step of the server in which it takes
//! effect; what is fenced requires, in that step, that the nonce is still there. So a marker that
//! the server has lost, for whatever reason, makes the fence one that does not hold.

use larder_store::{Error, Fence, Key, Result};

use crate::{
    names::Place,
    nonce::Nonce,
    script,
    shared::{Shared, millis},
};

/// What a fence of this store stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Under the key's marker.
    pub(crate) marker: Nonce,
    /// At the start of the key's lease, if it is to be held as well.
    pub(crate) lease: Option<Nonce>,
}

impl Token {
    /// What this fence stands for. One of another kind of store becomes one that never holds: no
    /// marker is zero.
    pub(crate) fn of(fence: &Fence) -> Self {
        let stranger = Self {
            marker: Nonce::ZERO,
            lease: None,
        };
        fence.downcast_ref().copied().unwrap_or(stranger)
    }

    pub(crate) fn into_fence(self) -> Fence {
        Fence::new(self)
    }

    /// From what a script answers.
    pub(crate) fn from_marker(marker: &[u8]) -> Result<Self> {
        let marker = <[u8; Nonce::LEN]>::try_from(marker)
            .map_err(|_| Error::corrupt("a marker is malformed"))?;
        Ok(Self {
            marker: Nonce::from(marker),
            lease: None,
        })
    }
}

/// Takes a fence for a key, whatever is there.
pub(crate) async fn take(shared: &Shared, key: Key<'_>) -> Result<Fence> {
    shared.check_open()?;
    let place = shared.names.place(key);
    take_at(shared, &place, key).await
}

pub(crate) async fn take_at(shared: &Shared, place: &Place, key: Key<'_>) -> Result<Fence> {
    let (nonce, ttl) = (shared.nonces.draw(), millis(shared.settings.fence_ttl));
    let marker: Vec<u8> = shared
        .run(
            place,
            &script::FENCE,
            &[&place.marker(key)],
            &[nonce.as_bytes(), &ttl],
        )
        .await?;
    Ok(Token::from_marker(&marker)?.into_fence())
}
