//! Bodies that break off, fail, stall or come late.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, stream};
use larder_store::{Body, KeyBuf, Object, Result};

use super::faults::{Fault, Faults, Op};

/// The object with its body struck; `shorten` is the length at which it breaks off.
pub(super) fn faulty_object(
    faults: Faults,
    key: KeyBuf,
    object: Object,
    shorten: Option<u64>,
) -> Object {
    if shorten.is_none() && object.body.as_whole().is_some() && !faults.expects(Op::Body) {
        return object;
    }
    let len = object.body.len();
    let body = Body::stream(len, chunks(faults, key, object.body, shorten));
    Object { body, ..object }
}

fn chunks(
    faults: Faults,
    key: KeyBuf,
    body: Body,
    shorten: Option<u64>,
) -> Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>> {
    let left = shorten.unwrap_or(u64::MAX);
    Box::pin(stream::try_unfold(
        (body, left),
        move |(mut body, mut left)| {
            let (faults, key) = (faults.clone(), key.clone());
            async move {
                if left == 0 {
                    return Ok(None);
                }
                let strike = faults.strike(Op::Body, &key);
                if let Some(strike) = &strike {
                    strike.before().await?;
                }
                let next = body.chunk().await?;
                if let Some(strike) = &strike {
                    if let Fault::Shorten(len) = strike.fault {
                        left = len;
                    }
                    strike.after().await?;
                }
                let Some(mut chunk) = next else {
                    return Ok(None);
                };
                chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                let cut = matches!(strike.map(|strike| strike.fault), Some(Fault::Shorten(_)));
                left = if cut { 0 } else { left - chunk.len() as u64 };
                Ok(Some((chunk, (body, left))))
            }
        },
    ))
}
