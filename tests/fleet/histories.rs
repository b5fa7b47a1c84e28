//! Four processes read, write and delete the same few pages, and no read is older than it may be:
//! while all is well, and while the network and the server fail.

use std::time::Duration;

use futures_util::future::join_all;
use larder_servers::{Proxy, Server, Way};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    PATIENCE,
    history::{Figures, Record, Rules},
    origin::Origin,
    process::Process,
    random::Random,
    settings::{Private, Settings},
};

const PAGES: u64 = 24;
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s67_no_read_is_older_than_it_may_be() {
    let fleet = Fleet::start(calm).await;
    fleet.is_right(4 * SECOND, true, async |_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn long_s67_no_read_is_older_than_it_may_be() {
    let fleet = Fleet::start(calm).await;
    fleet.is_right(60 * SECOND, true, async |_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s65_s67_no_read_is_older_or_fails_while_servers_fail() {
    let fleet = Fleet::start(troubled).await;
    fleet.is_right(10 * SECOND, false, trouble).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two minutes"]
async fn long_s65_s67_no_read_is_older_or_fails_while_servers_fail() {
    for _ in 0..4 {
        let fleet = Fleet::start(troubled).await;
        let troubles = async |fleet: &Fleet, random: &mut Random| {
            for _ in 0..3 {
                trouble(fleet, random).await;
            }
        };
        fleet.is_right(30 * SECOND, false, troubles).await;
    }
}

/// What the tests above are there to see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_without_a_bus_is_found_out() {
    let silent = |settings| Settings {
        bus: None,
        bound: SECOND / 4,
        ..settings
    };
    let fleet = Fleet::start(silent).await;
    let found = fleet.work(2 * SECOND, true, async |_, _| {}).await;
    let broken = found.expect_err("what others deleted is served for ever");
    assert!(
        broken.iter().all(|broken| broken.starts_with("older")),
        "{broken:?}"
    );
}

fn calm(settings: Settings) -> Settings {
    Settings {
        bound: 3 * SECOND / 2,
        ..settings
    }
}

fn troubled(settings: Settings) -> Settings {
    Settings {
        response: 3 * SECOND / 10,
        bound: SECOND,
        lease_ttl: SECOND,
        lease_wait: SECOND / 2,
        ..settings
    }
}

struct Fleet {
    members: Vec<Process>,
    bound: Duration,
    /// Before the first member's server.
    proxy: Proxy,
    server: Server,
    _folder: TempDir,
}

impl Fleet {
    /// One reaches the server through a proxy, one has a disk as well, one no private tier.
    async fn start(change: fn(Settings) -> Settings) -> Self {
        let (server, folder) = (Server::start(), TempDir::new().unwrap());
        let proxy = Proxy::start(server.address()).await;
        let origin = Origin::start(Duration::from_millis(2)).await;
        let settings = change(Settings {
            chunk: 4 << 10,
            ..Settings::new(origin.address, server.url())
        });
        let apart = Settings {
            redis: proxy.url(),
            bus: settings.bus.as_ref().map(|_| proxy.url()),
            ..settings.clone()
        };
        let path = folder.path().to_str().unwrap().to_owned();
        let disk = Settings {
            private: Private::Disk(path),
            ..settings.clone()
        };
        let none = Settings {
            private: Private::None,
            ..settings.clone()
        };
        let bound = settings.bound;
        Self {
            members: Process::start_all([apart, disk, settings, none]).await,
            bound,
            proxy,
            server,
            _folder: folder,
        }
    }

    /// Works for so long, and is right.
    async fn is_right(
        &self,
        time: Duration,
        calm: bool,
        trouble: impl AsyncFnOnce(&Self, &mut Random),
    ) {
        let found = self.work(time, calm, trouble).await;
        let figures = found.unwrap_or_else(|broken| {
            let first: Vec<_> = broken.iter().take(10).map(String::as_str).collect();
            panic!("{} times, as in\n{}", broken.len(), first.join("\n"));
        });
        println!("{figures:?}");
        // A body of which no tier above takes a copy breaks off with its tier, see
        // `s65_a_body_that_was_only_checked_is_cut`.
        let failed = figures.unexplained.len();
        assert!(
            failed <= figures.reads / 100,
            "{failed} reads failed: {figures:?}"
        );
        let seen = figures.reads > 200 && figures.deletes > 20 && figures.inserts > 10;
        assert!(seen, "too little to judge by: {figures:?}");
    }

    async fn work(
        &self,
        time: Duration,
        calm: bool,
        trouble: impl AsyncFnOnce(&Self, &mut Random),
    ) -> Result<Figures, Vec<String>> {
        let mut random = Random::seeded();
        let seeds: Vec<u64> = self.members.iter().map(|_| random.next()).collect();
        let working = self.members.iter().zip(seeds).map(async |(member, seed)| {
            let work = format!("work {seed} {} {PAGES}", time.as_millis());
            member.ask_within(time + PATIENCE, &work).await.unwrap()
        });
        let (told, ()) = tokio::join!(join_all(working), trouble(self, &mut random));
        let history: Vec<Record> = (told.iter().enumerate())
            .flat_map(|(process, told)| {
                let records = told.split(';').filter(|told| !told.is_empty());
                records.map(move |told| Record::parse(process, told))
            })
            .collect();
        let rules = Rules {
            private: vec![true, true, true, false],
            bound: self.bound,
            calm,
        };
        rules.check(&history)
    }
}

/// Some nine seconds in which the first member's network fails in all ways, and everybody's server.
async fn trouble(fleet: &Fleet, random: &mut Random) {
    let Fleet { proxy, server, .. } = fleet;
    let tenths = async |tenths: u32| sleep(SECOND / 10 * tenths).await;
    tenths(3).await;
    proxy.delay(Duration::from_millis(20) + random.millis(60));
    tenths(6).await;
    proxy.pass();
    for _ in 0..4 {
        proxy.cut_after(usize::try_from(random.below(20 << 10)).unwrap());
        tenths(1).await;
    }
    proxy.hold();
    sleep(SECOND + random.millis(500)).await;
    proxy.pass();
    tenths(5).await;
    server.pause();
    tenths(20).await;
    server.resume();
    tenths(5).await;
    proxy.refuse().await;
    proxy.cut();
    tenths(8).await;
    proxy.accept().await;
    tenths(4).await;
    server.kill();
    sleep(random.millis(600)).await;
    server.restart();
    tenths(8).await;
    proxy.hold_only(match random.below(2) {
        0 => Way::Requests,
        _ => Way::Replies,
    });
    sleep(SECOND + random.millis(500)).await;
    proxy.pass();
}
