//! The contract between the Larder cache engine and its stores.
//!
//! A [`Store`] keeps byte objects under keys: it opens them as streams, takes new ones through a
//! [`Writer`] that stages and then commits atomically, and hands out [`Fence`]s that keep old data
//! from landing on new. Whoever implements the trait can be a tier of a Larder cache, and depends
//! on this crate alone.
//!
//! ```
//! use larder_store::{ByteRange, Draft, Key, Lookup, Store};
//!
//! # async fn demo(store: &dyn Store) -> Result<(), larder_store::Error> {
//! let key = Key::new("docs/index.html")?;
//! let mut writer = store.set_with_writer(key, Draft::new()).await?;
//! writer.write("hello, ".into()).await?;
//! writer.write("world".into()).await?;
//! writer.commit().await?; // nothing was visible before this
//!
//! match store.get_stream(key, ByteRange::FULL).await? {
//!     Lookup::Hit(object) => assert_eq!(object.body.bytes(64).await?, "hello, world"),
//!     Lookup::Miss(_fence) => println!("not here, which is no error"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What a store promises
//!
//! 1. A miss is not an error: an error means that the store could not tell.
//! 2. A commit publishes all of an object at once; nothing of it is visible before.
//! 3. A writer that is dropped or aborted leaves no trace. Drop never publishes, panics or waits.
//! 4. The old object stays readable until the commit; an open body stays readable to its end after
//!    the object is replaced, deleted or evicted.
//! 5. Delete is idempotent, removes body and metadata together, and invalidates earlier fences.
//! 6. Nobody waits on a stranger: not for an open writer, not for an unread body.
//! 7. Fences hold, however long they are kept.
//! 8. Cancelling is safe: a dropped reply leaves the operation done or not done, never half, and
//!    never done later than the next operation on that key. A dropped write spoils its writer.
//! 9. Any range is honoured; past the end is [`Invalid`](ErrorKind::Invalid).
//! 10. Short or altered bytes end a body in [`Corrupt`](ErrorKind::Corrupt), never in a clean end.
//! 11. Accounting is exact, and capacity is bytes.
//! 12. An object whose body is above the limit fails with [`TooLarge`](ErrorKind::TooLarge) and evicts nothing.
//! 13. Every valid key works, and no two keys share an entry.
//! 14. `stat` and `get_stream` agree.
//! 15. Close is idempotent and flushes; later calls give [`Closed`](ErrorKind::Closed).
//! 16. Wrappers forward every method and every capability.
//! 17. Staged bytes stay readable while their handle lives.
//!
//! The crate `larder-conformance` has one test for each.

mod body;
mod bus;
mod capability;
mod codec;
mod entity_tag;
mod error;
mod ext;
mod fence;
mod key;
mod lease;
mod metadata;
mod range;
mod reply;
mod store;
mod sync;
mod time;
mod usage;
mod writer;

pub use body::{Body, BoxStream};
pub use bus::{Bus, Deliveries, Delivery, Message, Notice};
pub use capability::{Keys, List, Touch};
pub use entity_tag::EntityTag;
pub use error::{BoxError, Error, ErrorKind, Result};
pub use ext::StoreExt;
pub use fence::{Fence, Fences, Fencing, Stripe};
pub use key::{Key, KeyBuf};
pub use lease::{Holder, LEASE_TTL_MAX, Lease, Leased, Terms};
pub use metadata::{Draft, Header, METADATA_LEN_MAX, Metadata, Version};
pub use range::ByteRange;
pub use reply::Reply;
pub use store::{Identity, Lookup, Object, Store};
pub use time::Timestamp;
pub use usage::Usage;
pub use writer::{Commit, Staged, Writer};
