//! Callers, and what they saw.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, future::join_all, stream};
use larder::BoxError;
use tokio::time::{Instant, sleep};

use crate::web::Client;

/// What callers saw.
#[derive(Default)]
pub(crate) struct Seen {
    by: BTreeMap<String, u64>,
    times: Vec<Duration>,
    pub(crate) failed: u64,
}

impl Seen {
    fn add(&mut self, took: Duration, by: Result<String, BoxError>) {
        self.times.push(took);
        match by {
            Ok(by) => *self.by.entry(by).or_default() += 1,
            Err(error) => {
                eprintln!("fleet: {error}");
                self.failed += 1;
            }
        }
    }

    /// One line: how many, who answered, how long it took.
    pub(crate) fn tell(&mut self) -> String {
        self.times.sort_unstable();
        let at = |share: f64| {
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
            #[allow(clippy::cast_sign_loss)]
            let place = (self.times.len() as f64 * share) as usize;
            let time = self
                .times
                .get(place.min(self.times.len().saturating_sub(1)));
            time.copied().unwrap_or_default()
        };
        let by: Vec<String> = self
            .by
            .iter()
            .map(|(by, count)| format!("{by} {count}"))
            .collect();
        format!(
            "{} answers ({}), {} failed; p50 {:.1?}, p99 {:.1?}, max {:.1?}",
            self.times.len(),
            by.join(", "),
            self.failed,
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }
}

/// All services at once, each asked for every page by so many callers at once.
pub(crate) async fn rush(
    client: &Client,
    services: &[SocketAddr],
    pages: &[String],
    callers: usize,
) -> Seen {
    let calls = services.iter().flat_map(|&service| {
        let pages = pages.iter();
        pages.flat_map(move |page| (0..callers).map(move |_| (service, page)))
    });
    let mut seen = Seen::default();
    let mut answers = stream::iter(calls)
        .map(|(service, page)| call(client, service, page))
        .buffer_unordered(services.len() * callers * 20);
    while let Some((took, by)) = answers.next().await {
        seen.add(took, by);
    }
    seen
}

/// Some callers at each service, each asking for one page after the other until the time is over.
pub(crate) async fn stroll(
    client: &Client,
    services: &[SocketAddr],
    pages: &[String],
    time: Duration,
) -> Seen {
    const CALLERS: usize = 4;
    let until = Instant::now() + time;
    let walk = async |service, first| {
        let mut calls = Vec::new();
        for page in pages.iter().cycle().skip(first) {
            if Instant::now() >= until {
                break;
            }
            calls.push(call(client, service, page).await);
            sleep(Duration::from_millis(5)).await;
        }
        calls
    };
    let walks = services.iter().flat_map(|&service| {
        let first = |caller| caller * pages.len() / CALLERS;
        let walk = &walk;
        (0..CALLERS).map(move |caller| walk(service, first(caller)))
    });
    let mut seen = Seen::default();
    for (took, by) in join_all(walks).await.into_iter().flatten() {
        seen.add(took, by);
    }
    seen
}

async fn call(
    client: &Client,
    service: SocketAddr,
    page: &str,
) -> (Duration, Result<String, BoxError>) {
    let began = Instant::now();
    let answer = client.get(service, page).await;
    (began.elapsed(), answer.map(|page| page.by))
}
