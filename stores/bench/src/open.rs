//! Stores by URL.

#[cfg(feature = "redis")]
mod redis;

use std::{error::Error, sync::Arc};

use larder_disk::{Disk, Durability};
use larder_memory::{Eviction, Memory};
use larder_store::Store;

use crate::{Null, units::parse_size};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Opens a store by its URL.
///
/// - `memory:?capacity=64MiB&policy=s3-fifo|tiny-lfu|lru&object_max=16MiB`
/// - `disk:./folder?capacity=1GiB&durability=relaxed|on-commit&segment_size=..&large_object=..`
/// - `redis://[user:password@]host[:port][/database]?prefix=larder-bench&chunk_size=1MiB`, with the
///   feature `redis`; also `object_max`, `read_ahead`, `connections`, `connect_timeout` and
///   `response_timeout`. `rediss` and `redis+unix` are as in [`larder_redis`].
/// - `redis+cluster://host,host?..`, with the feature `cluster` and the same settings.
/// - `null:?size=4KiB`, which is no cache: [`Null`] tells what it is for.
///
/// Sizes are bytes, or have a unit: `KiB`, `MiB`, `GiB`, `TiB`. A folder is taken as it is written,
/// without escapes; what it holds from before is there again.
///
/// Errors: a scheme or a setting that there is not, a value that makes no sense, and what opening
/// the store gives.
pub async fn open(url: &str) -> Result<Arc<dyn Store>> {
    let (scheme, rest) = url
        .split_once(':')
        .ok_or_else(|| format!("`{url}` is no store's URL, such as memory:?capacity=64MiB"))?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut settings = Settings::of(query);
    let store: Arc<dyn Store> = match scheme {
        "memory" => Arc::new(memory(path, &mut settings)?),
        "disk" => Arc::new(disk(path, &mut settings).await?),
        #[cfg(feature = "redis")]
        "redis" | "rediss" | "redis+unix" => {
            Arc::new(redis::one(scheme, path, &mut settings).await?)
        }
        #[cfg(feature = "cluster")]
        "redis+cluster" => Arc::new(redis::cluster(path, &mut settings).await?),
        "null" => Arc::new(null(path, &mut settings)?),
        #[cfg(not(feature = "cluster"))]
        "redis+cluster" => {
            return Err("for a redis+cluster this must be built with the feature `cluster`".into());
        }
        #[cfg(not(feature = "redis"))]
        "redis" | "rediss" | "redis+unix" => {
            return Err("for redis this must be built with the feature `redis`".into());
        }
        other => {
            let known = "only memory, disk, redis and null";
            return Err(format!("there is no store `{other}`, {known}").into());
        }
    };
    Ok(store)
}

fn memory(path: &str, settings: &mut Settings) -> Result<Memory> {
    no_path("memory", path)?;
    let mut builder = Memory::builder(settings.size("capacity")?.unwrap_or(64 << 20));
    if let Some(bytes) = settings.size("object_max")? {
        builder = builder.object_max(bytes);
    }
    if let Some(policy) = settings.take("policy") {
        builder = builder.policy(match policy.as_str() {
            "s3-fifo" => Eviction::S3Fifo,
            "tiny-lfu" => Eviction::TinyLfu,
            "lru" => Eviction::Lru,
            other => {
                let known = "only s3-fifo, tiny-lfu and lru";
                return Err(format!("there is no policy `{other}`, {known}").into());
            }
        });
    }
    settings.all_used()?;
    Ok(builder.build()?)
}

async fn disk(path: &str, settings: &mut Settings) -> Result<Disk> {
    // `disk:///folder` is the folder; `disk://folder` would be a host.
    let path = match path.strip_prefix("//") {
        Some(path) if !path.starts_with('/') => {
            return Err(format!("a disk has no host: write disk:./{path} or disk:/{path}").into());
        }
        stripped => stripped.unwrap_or(path),
    };
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
            other => {
                let known = "only relaxed and on-commit";
                return Err(format!("there is no durability `{other}`, {known}").into());
            }
        });
    }
    settings.all_used()?;
    Ok(builder.open().await?)
}

fn null(path: &str, settings: &mut Settings) -> Result<Null> {
    no_path("null", path)?;
    let len = settings.size("size")?.unwrap_or(4 << 10);
    settings.all_used()?;
    Ok(Null::new(len)?)
}

fn no_path(scheme: &str, path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Ok(());
    }
    Err(format!(
        "`{path}` is nothing to a {scheme} store: write {scheme}:?..."
    ))
}

/// What stands behind the question mark, each to be used once.
struct Settings(Vec<(String, String)>);

impl Settings {
    fn of(query: &str) -> Self {
        Self(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(place).1)
    }

    fn size(&mut self, name: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        let wrong = || format!("{name}: `{text}` is no size, such as 65536, 64KiB or 1.5GiB");
        parse_size(&text).ok_or_else(wrong).map(Some)
    }

    #[cfg(feature = "redis")]
    fn duration(&mut self, name: &str) -> Result<Option<std::time::Duration>, String> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        let wrong = || format!("{name}: `{text}` is no time, such as 500ms or 2s");
        crate::units::parse_duration(&text)
            .ok_or_else(wrong)
            .map(Some)
    }

    #[cfg(feature = "redis")]
    fn number<T: std::str::FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        let number = text.parse();
        number.map_or_else(
            |_| Err(format!("{name}: `{text}` is no number")),
            |number| Ok(Some(number)),
        )
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
        assert_eq!(open("null:?size=1").await.unwrap().kind(), "null");
    }

    #[tokio::test]
    async fn folders_are_taken_as_they_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b%20ü#");
        let url = format!("disk://{}?capacity=4MiB", path.display());
        let store = open(&url).await.unwrap();
        assert!(path.is_dir());
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
        assert!(says("disk://host/x").await.contains("host"));
        assert!(says("memory:./x").await.contains("./x"));
        assert!(says("memory:?capacity=0").await.contains('0'));
    }
}
