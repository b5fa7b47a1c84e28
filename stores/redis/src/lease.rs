//! Leases: who works on a key, under a name of its own that expires by itself.
//!
//! A lease is a token of 16 bytes, then the length of `who` in two bytes, little-endian, then `who`
//! and `why`. The token is drawn anew for each lease; no two holders ever have the same, so that it
//! is what others call a fencing token.

use std::{sync::Arc, time::Duration};

use larder_store::{Fence, Holder, Key, Leased, Result, Terms};

use crate::{
    fence::Token,
    nonce::Nonce,
    script,
    shared::{Shared, millis},
};

pub(crate) async fn acquire(
    shared: &Shared,
    key: Key<'_>,
    fence: &Fence,
    terms: &Terms,
) -> Result<Leased> {
    shared.check_open()?;
    terms.check()?;
    let (place, token) = (shared.names.place(key), Token::of(fence));
    let lease = shared.nonces.draw();
    let keys: [&[u8]; 2] = [&place.marker(key), &place.lease(key)];
    let args: [&[u8]; 4] = [
        token.marker.as_bytes(),
        &encode(lease, terms),
        &millis(terms.ttl),
        &millis(shared.settings.fence_ttl.max(terms.ttl)),
    ];
    let answer: Option<redis::Value> = shared.run(&place, &script::ACQUIRE, &keys, &args).await?;
    Ok(match answer {
        None => Leased::Superseded,
        Some(redis::Value::Array(holder)) if holder.is_empty() => {
            let lease = Some(lease);
            Leased::Granted(Token { lease, ..token }.into_fence())
        }
        Some(holder) => Leased::Taken(decode(holder)),
    })
}

pub(crate) async fn renew(
    shared: &Shared,
    key: Key<'_>,
    fence: &Fence,
    ttl: Duration,
) -> Result<bool> {
    shared.check_open()?;
    Terms::check_ttl(ttl)?;
    let token = Token::of(fence);
    if token.lease.is_none() {
        return Ok(false);
    }
    prolong(shared, key, &token, ttl).await
}

/// Makes a fence last, and the lease that it stands for. `false` when it does not hold.
pub(crate) async fn prolong(
    shared: &Shared,
    key: Key<'_>,
    token: &Token,
    ttl: Duration,
) -> Result<bool> {
    let place = shared.names.place(key);
    let keys: [&[u8]; 2] = [&place.marker(key), &place.lease(key)];
    let args: [&[u8]; 4] = [
        token.marker.as_bytes(),
        token.lease.as_ref().map_or(&[], Nonce::as_bytes),
        &millis(ttl),
        &millis(shared.settings.fence_ttl.max(ttl)),
    ];
    shared.run(&place, &script::RENEW, &keys, &args).await
}

pub(crate) async fn release(shared: &Shared, key: Key<'_>, fence: &Fence) -> Result<()> {
    shared.check_open()?;
    let Some(lease) = Token::of(fence).lease else {
        return Ok(());
    };
    let place = shared.names.place(key);
    let keys: [&[u8]; 1] = [&place.lease(key)];
    shared
        .run(&place, &script::RELEASE, &keys, &[lease.as_bytes()])
        .await
}

fn encode(lease: Nonce, terms: &Terms) -> Vec<u8> {
    // `Terms::check` holds it to 256 bytes.
    let who_len = u16::try_from(terms.who.len()).unwrap_or(u16::MAX);
    let (who, why) = (terms.who.as_bytes(), terms.why.as_bytes());
    [lease.as_bytes(), &who_len.to_le_bytes(), who, why].concat()
}

/// Of a lease that somebody else may have written: what cannot be read is left empty.
fn decode(answer: redis::Value) -> Holder {
    let (lease, left): (Vec<u8>, i64) = redis::from_redis_value(answer).unwrap_or_default();
    let texts = lease.get(Nonce::LEN..).and_then(|texts| {
        let (len, texts) = texts.split_first_chunk()?;
        texts.split_at_checked(u16::from_le_bytes(*len).into())
    });
    let (who, why) = texts.unwrap_or_default();
    let text = |bytes| Arc::from(String::from_utf8_lossy(bytes));
    Holder {
        who: text(who),
        why: text(why),
        left: Duration::from_millis(left.try_into().unwrap_or_default()),
    }
}
