//! Stores by URL.

use std::{error::Error, sync::Arc};

use larder_disk::{Disk, Durability};
use larder_memory::{Eviction, Memory};
use larder_store::Store;
use url::Url;

use crate::units::parse_size;

/// Opens a store by its URL.
///
/// - `memory:?capacity=64MiB&policy=s3-fifo|tiny-lfu|lru&object_max=16MiB`
/// - `disk:./folder?capacity=1GiB&durability=relaxed|on-commit&segment_size=..&large_object=..`
///
/// Sizes are bytes, or have a unit: `KiB`, `MiB`, `GiB`, `TiB`.
///
/// Errors: a scheme or a setting that there is not, a value that makes no sense, and what opening
/// the store gives.
pub async fn open(url: &str) -> Result<Arc<dyn Store>, Box<dyn Error + Send + Sync>> {
    let url = Url::parse(url).map_err(|error| format!("`{url}` is no store's URL: {error}"))?;
    let mut settings = Settings::of(&url);
    let store: Arc<dyn Store> = match url.scheme() {
        "memory" => Arc::new(memory(&mut settings)?),
        "disk" => Arc::new(disk(&url, &mut settings).await?),
        other => return Err(format!("there is no store `{other}`, only memory and disk").into()),
    };
    Ok(store)
}

fn memory(settings: &mut Settings) -> Result<Memory, Box<dyn Error + Send + Sync>> {
    let mut builder = Memory::builder(settings.size("capacity")?.unwrap_or(64 << 20));
    if let Some(bytes) = settings.size("object_max")? {
        builder = builder.object_max(bytes);
    }
    if let Some(policy) = settings.take("policy") {
        builder = builder.policy(match policy.as_str() {
            "s3-fifo" => Eviction::S3Fifo,
            "tiny-lfu" => Eviction::TinyLfu,
            "lru" => Eviction::Lru,
            other => return Err(format!("there is no policy `{other}`").into()),
        });
    }
    settings.all_used()?;
    Ok(builder.build()?)
}

async fn disk(url: &Url, settings: &mut Settings) -> Result<Disk, Box<dyn Error + Send + Sync>> {
    let path = url.path();
    if path.is_empty() {
        return Err("the URL of a disk store names no folder".into());
    }
    let capacity = settings.size("capacity")?.unwrap_or(1 << 30);
    let mut builder = Disk::builder(path, capacity);
    if let Some(bytes) = settings.size("segment_size")? {
        builder = builder.segment_size(bytes);
    }
    if let Some(bytes) = settings.size("large_object")? {
        builder = builder.large_object(bytes);
    }
    if let Some(bytes) = settings.size("object_max")? {
        builder = builder.object_max(bytes);
    }
    if let Some(durability) = settings.take("durability") {
        builder = builder.durability(match durability.as_str() {
            "relaxed" => Durability::Relaxed,
            "on-commit" => Durability::OnCommit,
            other => return Err(format!("there is no durability `{other}`").into()),
        });
    }
    settings.all_used()?;
    Ok(builder.open().await?)
}

/// What stands behind the question mark, each to be used once.
struct Settings(Vec<(String, String)>);

impl Settings {
    fn of(url: &Url) -> Self {
        Self(url.query_pairs().into_owned().collect())
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(place).1)
    }

    fn size(&mut self, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        let size = parse_size(&text).ok_or_else(|| format!("{name}: `{text}` is no size"))?;
        Ok(Some(size))
    }

    fn all_used(&self) -> Result<(), String> {
        match self.0.first() {
            Some((name, _)) => Err(format!(
                "there is no setting `{name}`, or it is there twice"
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn opens_by_url() {
        let store = open("memory:?capacity=1MiB&policy=lru").await.unwrap();
        assert_eq!(store.usage().capacity, Some(1 << 20));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store").display().to_string();
        let store = open(&format!("disk:{path}?capacity=4MiB")).await.unwrap();
        assert_eq!(store.kind(), "disk");
        store.close().await.unwrap();
    }

    #[tokio::test]
    async fn says_what_is_wrong() {
        let says = async |url: &str| open(url).await.unwrap_err().to_string();
        assert!(says("memory:?capacitty=1").await.contains("capacitty"));
        assert!(says("memory:?capacity=1XB").await.contains("1XB"));
        assert!(says("tape:").await.contains("tape"));
        assert!(says("disk:").await.contains("folder"));
        assert!(says("no url").await.contains("no url"));
        assert!(says("memory:?capacity=0").await.contains('0'));
    }
}
