//! Conveniences over any store.

use bytes::Bytes;

use crate::{ByteRange, Commit, Draft, Key, Lookup, Result, Store};

/// What can be done with every [`Store`] in one call.
///
/// ```
/// # async fn demo(store: &dyn larder_store::Store) -> Result<(), larder_store::Error> {
/// use larder_store::{Draft, StoreExt};
///
/// store.write("greeting", "hello", Draft::new()).await?;
/// assert_eq!(store.read("greeting", 1024).await?.unwrap(), "hello");
/// # Ok(())
/// # }
/// ```
pub trait StoreExt: Store {
    /// Whether there is an object under the key.
    fn exists(&self, key: &str) -> impl Future<Output = Result<bool>> + Send {
        async move { Ok(self.stat(Key::new(key)?).await?.is_some()) }
    }

    /// The whole object, `None` when it is absent; `TooLarge` above `max` bytes.
    fn read(&self, key: &str, max: u64) -> impl Future<Output = Result<Option<Bytes>>> + Send {
        self.read_range(key, ByteRange::FULL, max)
    }

    /// A part of the object, `None` when it is absent; `TooLarge` above `max` bytes.
    fn read_range(
        &self,
        key: &str,
        range: ByteRange,
        max: u64,
    ) -> impl Future<Output = Result<Option<Bytes>>> + Send {
        async move {
            match self.get_stream(Key::new(key)?, range).await? {
                Lookup::Hit(object) => object.body.bytes(max).await.map(Some),
                Lookup::Miss(_) => Ok(None),
            }
        }
    }

    /// Writes and commits a whole object.
    fn write(
        &self,
        key: &str,
        bytes: impl Into<Bytes> + Send,
        draft: Draft,
    ) -> impl Future<Output = Result<Commit>> + Send {
        async move {
            let bytes = bytes.into();
            let draft = draft.len(bytes.len() as u64);
            let mut writer = self.set_with_writer(Key::new(key)?, draft).await?;
            if !bytes.is_empty() {
                writer.write(bytes).await?;
            }
            writer.commit().await
        }
    }

    /// Removes the object, if there is one.
    fn remove(&self, key: &str) -> impl Future<Output = Result<()>> + Send {
        async move { self.delete(Key::new(key)?, None).await.map(drop) }
    }
}

impl<S: Store + ?Sized> StoreExt for S {}
