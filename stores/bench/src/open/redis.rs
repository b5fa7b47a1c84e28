//! The store in a Redis server, by URL.

use larder_redis::{Builder, Redis};

use super::{Result, Settings};

/// What the benchmark's names in a server begin with unless told otherwise: not what a cache in
/// the same server uses by default, whose objects it would replace.
const PREFIX: &str = "larder-bench";

/// A store in one server; the path is what stands behind the scheme.
pub(super) async fn one(scheme: &str, path: &str, settings: &mut Settings) -> Result<Redis> {
    let builder = Redis::builder(format!("{scheme}:{path}"));
    Ok(set(builder, settings)?.connect().await?)
}

/// A store in a cluster: `//[user:password@]host[:port],host[:port]`, where the login is that of
/// all of them.
#[cfg(feature = "cluster")]
pub(super) async fn cluster(path: &str, settings: &mut Settings) -> Result<Redis> {
    let nodes = path
        .strip_prefix("//")
        .ok_or("write redis+cluster://host,host")?;
    let (login, hosts) = match nodes.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), nodes),
    };
    let urls = hosts
        .split(',')
        .map(|host| format!("redis://{login}{host}"));
    Ok(set(Redis::cluster(urls), settings)?.connect().await?)
}

fn set(builder: Builder, settings: &mut Settings) -> Result<Builder> {
    let prefix = settings.take("prefix");
    let mut builder = builder.prefix(prefix.unwrap_or_else(|| PREFIX.to_owned()));
    if let Some(bytes) = settings.size("chunk_size")? {
        // What does not fit is refused with what is too large.
        builder = builder.chunk_size(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
    if let Some(bytes) = settings.size("object_max")? {
        builder = builder.object_max(bytes);
    }
    if let Some(chunks) = settings.number("read_ahead")? {
        builder = builder.read_ahead(chunks);
    }
    if let Some(count) = settings.number("connections")? {
        builder = builder.connections(count);
    }
    if let Some(time) = settings.duration("connect_timeout")? {
        builder = builder.connect_timeout(time);
    }
    if let Some(time) = settings.duration("response_timeout")? {
        builder = builder.response_timeout(time);
    }
    settings.all_used()?;
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use larder_store::Store;

    use crate::open;

    async fn says(url: &str) -> String {
        open(url).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn settings_are_checked_before_anything_is_sent() {
        // Nobody listens there.
        let at = "redis://127.0.0.1:1/";
        assert!(says(&format!("{at}?prefixx=a")).await.contains("prefixx"));
        assert!(says(&format!("{at}?prefix=a*")).await.contains("a*"));
        assert!(says(&format!("{at}?chunk_size=9XB")).await.contains("9XB"));
        let large = says(&format!("{at}?chunk_size=5GiB")).await;
        assert!(large.contains("chunk_size"), "{large}");
        assert!(says(&format!("{at}?connections=-1")).await.contains("-1"));
        let time = says(&format!("{at}?response_timeout=1y")).await;
        assert!(time.contains("1y"), "{time}");
        assert!(says(at).await.contains("cannot connect"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_is_opened_by_its_url() {
        let server = larder_servers::Server::start();
        let url = format!("{}/?connections=3&chunk_size=64KiB", server.url());
        let store = open(&url).await.unwrap();
        assert_eq!(store.kind(), "redis");
        write(&*store).await;
        let names: Vec<String> = server.ask(&["KEYS", "*"]);
        assert!(!names.is_empty());
        for name in &names {
            assert!(name.starts_with("larder-bench:"), "{name}");
        }
        store.close().await.unwrap();
        let url = format!("{}/?prefix=other", server.url());
        let store = open(&url).await.unwrap();
        write(&*store).await;
        let others: Vec<String> = server.ask(&["KEYS", "other:*"]);
        assert_eq!(others.len(), 1);
    }

    #[cfg(feature = "cluster")]
    #[tokio::test(flavor = "multi_thread")]
    async fn a_cluster_is_opened_by_its_url() {
        let cluster = larder_servers::Cluster::start();
        let nodes: Vec<String> = cluster
            .addresses()
            .iter()
            .map(ToString::to_string)
            .collect();
        let url = format!("redis+cluster://{}?prefix=a", nodes.join(","));
        let store = open(&url).await.unwrap();
        write(&*store).await;
        assert!(says("redis+cluster:a,b").await.contains("host,host"));
    }

    #[cfg(not(feature = "cluster"))]
    #[tokio::test]
    async fn a_cluster_needs_its_feature() {
        assert!(says("redis+cluster://a,b").await.contains("cluster"));
    }

    async fn write(store: &dyn Store) {
        use larder_store::{Draft, StoreExt as _};

        let commit = store.write("key", "body", Draft::new()).await;
        assert!(commit.unwrap().is_done());
    }
}
