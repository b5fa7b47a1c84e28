//! S85: one process clears while others fetch.

use std::time::Duration;

use futures_util::future::join_all;
use larder_servers::{Proxy, Server};
use tokio::time::{Instant, sleep};

use crate::{origin::Origin, process::Process, settings::Settings};

const SECOND: Duration = Duration::from_secs(1);
const PAGES: u32 = 240;

/// How long a fetch takes.
const FETCH: Duration = Duration::from_secs(4);

/// Over how long the fetches begin; the clear is called in the middle.
const SPREAD: Duration = Duration::from_secs(8);

/// The clear's store is slow, so that it would last for a while even if it told nobody. The bound is
/// the default: five seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s85_no_page_fetched_before_a_clear_is_served_past_the_bound() {
    let (server, origin) = (Server::start(), Origin::start(FETCH).await);
    let settings = Settings::new(origin.address, server.url());
    let proxy = Proxy::start(server.address()).await;
    let apart = Settings {
        redis: proxy.url(),
        ..settings.clone()
    };
    let members = Process::start_all([apart, settings.clone(), settings.clone()]).await;
    let [clearing, reading @ ..] = &members[..] else {
        unreachable!("they are three")
    };
    // What there is to delete when the clear begins.
    let sets = (0..PAGES).map(async |page| clearing.ask(&format!("set old{page} 1")).await);
    for set in join_all(sets).await {
        set.unwrap();
    }
    sleep(settings.bound).await;
    proxy.delay(SECOND / 10);
    let reads = (0..PAGES).map(async |page| {
        sleep(SPREAD * page / PAGES).await;
        let seen = reading[page as usize % 2]
            .read(&format!("page{page}"))
            .await;
        assert!(seen.version > 0);
    });
    let clear = async {
        sleep(SPREAD / 2).await;
        let pages = (0..PAGES).map(|page| origin.publish(&format!("page{page}")));
        assert_eq!(pages.max(), Some(2));
        let called = Instant::now();
        clearing.ask("clear").await.unwrap();
        println!("the clear took {:?}", called.elapsed());
        Instant::now()
    };
    let (_, cleared) = tokio::join!(join_all(reads), clear);
    proxy.pass();
    sleep((cleared + settings.bound).saturating_duration_since(Instant::now())).await;
    let mut late = 0;
    for page in 0..PAGES {
        for member in &members {
            let seen = member.look(&format!("page{page}")).await;
            late += u32::from(seen.is_some_and(|seen| seen.version < 2));
        }
    }
    assert_eq!(late, 0, "of {} looks", PAGES * 3);
}
