//! Telling other processes what is not to be served any more: a channel of the server.
//!
//! 1. A subscription has a connection of its own and one task, the [`listener`], which takes in
//!    whatever comes at once: nobody waits for a subscriber, neither here nor in the server.
//! 2. What waits for the subscriber is bounded, by number and by bytes ([`queue`]).
//! 3. Between two messages that were not published one after the other, the subscriber finds a
//!    `Lost`.
//!
//! The server keeps no message: one that is published while a subscription has no connection is
//! never heard there. So a `Lost` comes twice, when the connection breaks and when the next one
//! hears: what was stored in between is as doubtful as what was stored before.

mod listener;
mod queue;

use larder_store::{Bus, Deliveries, Message, Reply};

use crate::{Redis, bus::listener::Subscription};

/// How many ways are tried to publish a message. Each leads to a node of the cluster as if drawn.
const WAYS_MAX: u64 = 4;

/// A message takes one round trip. In a cluster it reaches all nodes, whichever takes it.
///
/// A subscription has one connection of its own. Where that is silent for two seconds, the server
/// is asked whether it is there, and given two more to answer: then it tells
/// [`Lost`](larder_store::Delivery::Lost), connects anew with growing pauses of up to five seconds,
/// and tells `Lost` again when it hears. It keeps at most 1,024 messages or 4 MiB of them for a
/// subscriber that does not take them; one more, and all that waited become one `Lost`. What is
/// published on the channel and is no message is a `Lost`, too.
///
/// A subscription keeps the store's connections open as a body does, until it is dropped.
impl Bus for Redis {
    /// The server takes the message perhaps twice, when it does not answer. Each of up to four
    /// attempts may take the response time-out.
    fn publish<'a>(&'a self, message: &'a Message) -> Reply<'a, ()> {
        Reply::later(self.0.home.run(async move {
            self.0.check_open()?;
            let mut command = redis::cmd("PUBLISH");
            command.arg(self.0.names.bus()).arg(message.encode());
            // One way for each publisher, so that its messages keep their order; others only when
            // that one is closed, in a cluster of which another node may be there. To send one
            // again does no harm: a subscriber sees that it has had it.
            let mut published = Ok(());
            for way in 0..WAYS_MAX {
                let hash = message.publisher.wrapping_add(way);
                published = self.0.link.read(hash, &command).await;
                match &published {
                    Err(error) if error.is_unavailable() || error.is_timeout() => {}
                    _ => break,
                }
            }
            published
        }))
    }

    fn subscribe(&self) -> Reply<'_, Deliveries> {
        Reply::later(self.0.home.run(async {
            self.0.check_open()?;
            let subscription = Subscription::begin(self.0.clone()).await?;
            Ok(Box::pin(subscription) as Deliveries)
        }))
    }
}
