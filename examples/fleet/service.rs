//! One process of the service: pages of the origin, through a cache in memory over the shared Redis.

use std::{net::SocketAddr, time::Duration};

use hyper::{Method, StatusCode};
use larder::{BoxError, Cache, Error, FetchContext, Fetched, Memory, Policy, Redis, Tier};

use crate::web::{self, Answer, Client};

/// Serves until its standard input ends, which is when the fleet does.
pub(crate) async fn run(name: &str, origin: SocketAddr, redis: &str) -> Result<(), BoxError> {
    let redis = Redis::builder(redis)
        .response_timeout(Duration::from_secs(1))
        .connect()
        .await?;
    let cache = Cache::builder()
        .tier(Memory::new(64 << 20))
        .tier(
            Tier::new(redis.clone())
                .shared()
                .timeout(Duration::from_secs(1)),
        )
        .leases(redis.clone())
        .bus(redis)
        .process(name)
        .policy(Policy::new().ttl(Duration::from_secs(600)))
        .build()?;
    let service = Service {
        cache: cache.clone(),
        client: Client::new(),
        origin,
    };
    let address = web::serve(move |method, path| service.clone().answer(method, path)).await?;
    println!("{address}");
    // Blocks a thread of its own; the fleet holds the other end.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    cache.close().await?;
    Ok(())
}

#[derive(Clone)]
struct Service {
    cache: Cache,
    client: Client,
    origin: SocketAddr,
}

impl Service {
    async fn answer(self, method: Method, path: String) -> Answer {
        let answer = match method {
            Method::GET => self.get(&path).await,
            Method::DELETE => self.delete(&path).await,
            _ => return web::answer(StatusCode::METHOD_NOT_ALLOWED, "", "GET or DELETE"),
        };
        answer.unwrap_or_else(|error| web::answer(StatusCode::BAD_GATEWAY, "", error.to_string()))
    }

    async fn get(&self, path: &str) -> Result<Answer, Error> {
        let (client, origin) = (self.client.clone(), self.origin);
        let fetch = async move |cx: FetchContext| {
            let page = client.get(origin, cx.key()).await?;
            Ok::<_, BoxError>(Fetched::bytes(page.bytes))
        };
        let response = self.cache.get_or_fetch(path, fetch).await?;
        let status = response.status();
        let by = match status.source() {
            larder::Source::Tier { name, .. } => name,
            _ if status.is_joined() => "another's fetch",
            _ => "origin",
        };
        match response.into_body() {
            Some(body) => Ok(web::answer(StatusCode::OK, by, body.bytes(1 << 20).await?)),
            None => Ok(web::answer(StatusCode::NOT_FOUND, by, "")),
        }
    }

    async fn delete(&self, path: &str) -> Result<Answer, Error> {
        self.cache.delete(path).await?;
        Ok(web::answer(StatusCode::OK, "", ""))
    }
}
