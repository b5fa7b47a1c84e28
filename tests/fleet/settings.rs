//! What a member of the fleet is started with.

use std::{net::SocketAddr, time::Duration};

use larder::{Cache, Disk, Memory, Policy, Redis, Tier};

/// The cache of a member, in words that fit an environment variable.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) origin: SocketAddr,
    pub(crate) redis: String,
    /// Where the bus is; `None` for a fleet whose members do not tell each other.
    pub(crate) bus: Option<String>,
    pub(crate) private: Private,
    pub(crate) chunk: u32,
    pub(crate) connections: usize,
    /// How long the server may take, as the store's and the tier's time-out.
    pub(crate) response: Duration,
    pub(crate) bound: Duration,
    pub(crate) lease_ttl: Duration,
    pub(crate) lease_wait: Duration,
}

/// The tiers above the shared one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Private {
    None,
    Memory,
    /// Memory, and a disk store in this folder, whose path has no spaces.
    Disk(String),
}

/// Neither is reached in any test.
const MEMORY: u64 = 256 << 20;
const DISK: u64 = 256 << 20;

impl Settings {
    /// A member with a memory tier, whose waits are too long to be met by chance.
    pub(crate) fn new(origin: SocketAddr, redis: String) -> Self {
        Self {
            origin,
            bus: Some(redis.clone()),
            redis,
            private: Private::Memory,
            chunk: 1 << 20,
            connections: 2,
            response: Duration::from_secs(30),
            bound: Duration::from_secs(5),
            lease_ttl: Duration::from_secs(30),
            lease_wait: Duration::from_secs(60),
        }
    }

    pub(crate) fn told(&self) -> String {
        let private = match &self.private {
            Private::None => "none",
            Private::Memory => "memory",
            Private::Disk(path) => path,
        };
        format!(
            "{} {} {} {private} {} {} {} {} {} {}",
            self.origin,
            self.redis,
            self.bus.as_deref().unwrap_or("none"),
            self.chunk,
            self.connections,
            self.response.as_millis(),
            self.bound.as_millis(),
            self.lease_ttl.as_millis(),
            self.lease_wait.as_millis(),
        )
    }

    pub(crate) fn parse(told: &str) -> Self {
        let words: Vec<&str> = told.split(' ').collect();
        let &[
            origin,
            redis,
            bus,
            private,
            chunk,
            connections,
            response,
            bound,
            ttl,
            wait,
        ] = &words[..]
        else {
            panic!("settings are ten words: {told}");
        };
        let millis = |word: &str| Duration::from_millis(word.parse().unwrap());
        Self {
            origin: origin.parse().unwrap(),
            redis: redis.to_owned(),
            bus: (bus != "none").then(|| bus.to_owned()),
            private: match private {
                "none" => Private::None,
                "memory" => Private::Memory,
                path => Private::Disk(path.to_owned()),
            },
            chunk: chunk.parse().unwrap(),
            connections: connections.parse().unwrap(),
            response: millis(response),
            bound: millis(bound),
            lease_ttl: millis(ttl),
            lease_wait: millis(wait),
        }
    }

    pub(crate) async fn open(&self) -> Cache {
        let redis = self.connect(&self.redis).await;
        let mut cache = Cache::builder();
        if self.private != Private::None {
            cache = cache.tier(Memory::new(MEMORY));
        }
        if let Private::Disk(path) = &self.private {
            cache = cache.tier(Disk::open(path, DISK).await.unwrap());
        }
        let shared = Tier::new(redis.clone()).shared().timeout(self.response);
        cache = cache.tier(shared).leases(redis.clone());
        cache = match &self.bus {
            None => cache,
            Some(bus) if *bus == self.redis => cache.bus(redis),
            Some(bus) => cache.bus(self.connect(bus).await),
        };
        let lifetimes = Policy::new()
            .ttl(Duration::from_secs(600))
            .stale_while_revalidate(Duration::ZERO)
            .stale_if_error(Duration::ZERO)
            .jitter(0.0);
        cache
            .bus_bound(self.bound)
            .lease_ttl(self.lease_ttl)
            .lease_wait(self.lease_wait)
            .policy(lifetimes)
            .build()
            .unwrap()
    }

    async fn connect(&self, url: &str) -> Redis {
        let redis = Redis::builder(url)
            .chunk_size(self.chunk)
            .connections(self.connections)
            .response_timeout(self.response);
        redis.connect().await.unwrap()
    }
}

#[test]
fn what_is_told_is_understood() {
    let origin = "127.0.0.1:1".parse().unwrap();
    let settings = Settings {
        bus: None,
        private: Private::Disk("/folder".to_owned()),
        ..Settings::new(origin, "redis://127.0.0.1:2".to_owned())
    };
    let parsed = Settings::parse(&settings.told());
    assert_eq!(format!("{parsed:?}"), format!("{settings:?}"));
}
