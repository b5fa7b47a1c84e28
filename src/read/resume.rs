//! A tier's body that is continued from the origin when the tier fails half-way.
//!
//! The readers have some of the object already, so only the same object will do: the origin's
//! answer must carry the same strong entity tag (RFC 9110, section 8.8.1: same tag, same bytes) and
//! no other length. Otherwise the tier's error stands.

use std::sync::Arc;

use futures_util::stream::unfold;
use larder_store::{Body, Header};

use super::{flight::Flight, origin::fetch, plan::Plan, reader::skip};
use crate::{
    engine::Engine,
    fetch::{FetchContext, Found},
};

struct Source {
    engine: Arc<Engine>,
    flight: Arc<Flight>,
    plan: Plan,
    header: Arc<Header>,
    len: u64,
    body: Body,
    /// How many bytes were given.
    at: u64,
}

/// The body of an object of this length, continued by the flight's fetcher if the tier fails.
pub(crate) fn resumed(
    engine: &Arc<Engine>,
    flight: &Arc<Flight>,
    plan: Plan,
    header: Arc<Header>,
    len: u64,
    body: Body,
) -> Body {
    let (engine, flight) = (Arc::clone(engine), Arc::clone(flight));
    let source = Source {
        engine,
        flight,
        plan,
        header,
        len,
        body,
        at: 0,
    };
    let chunks = unfold(source, |mut source| async move {
        loop {
            match source.body.chunk().await {
                Ok(Some(chunk)) => {
                    source.at += chunk.len() as u64;
                    return Some((Ok(chunk), source));
                }
                Ok(None) => return None,
                Err(error) => match source.go_on().await {
                    Some(rest) => source.body = rest,
                    None => return Some((Err(error), source)),
                },
            }
        }
    });
    Body::stream(Some(len), chunks)
}

impl Source {
    /// The rest of the object from the origin, if that has the same one.
    async fn go_on(&mut self) -> Option<Body> {
        let tag = self.header.etag.as_ref().filter(|tag| !tag.is_weak())?;
        let fetcher = self.flight.take_fetcher()?;
        tracing::debug!(at = self.at, "a tier failed half-way, the origin goes on");
        // Not about the stale copy: "not modified" would bring no bytes.
        let context = FetchContext {
            key: self.flight.key.clone(),
            stale: None,
        };
        let fetched = fetch(&self.engine, &self.flight, &self.plan, fetcher, context).await;
        let fetched = fetched.ok()?;
        let Found::Body(body) = fetched.found else {
            return None;
        };
        let is_same =
            fetched.header.etag() == Some(tag) && body.len().is_none_or(|len| len == self.len);
        is_same.then(|| skip(body, self.at, self.len))
    }
}
