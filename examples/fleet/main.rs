//! Three processes of one small service act as one cache on one Redis.
//!
//! ```text
//! cargo run --release --example fleet --features redis
//! ```
//!
//! It starts a `redis-server` of its own (which must be installed), an origin that takes 50 ms a
//! page, and three processes of the service, and drives them at once: a rush on pages that nobody
//! has, the same rush again, deletes in one process that the others must see, and five seconds in
//! which the server is stopped.
//!
//! The cache itself is in `service.rs`; the rest is there to show what it does.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool speaks to its user"
)]

mod drive;
mod origin;
mod service;
mod web;

use std::{env, net::SocketAddr, process::Stdio, time::Duration};

use larder::BoxError;
use larder_servers::Server;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{origin::Origin, web::Client};

const SERVICES: usize = 3;
const PAGES: usize = 200;
const CALLERS: usize = 10;
const STOPPED: Duration = Duration::from_secs(5);
/// How long anything may take to be seen.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => fleet().await,
        ["serve", name, origin, redis] => service::run(name, origin.parse()?, redis).await,
        _ => Err("usage: cargo run --release --example fleet --features redis".into()),
    }
}

async fn fleet() -> Result<(), BoxError> {
    let redis = Server::start();
    let origin = Origin::default();
    let origin_address = origin.start().await?;
    let client = Client::new();
    let mut fleet = Vec::new();
    for number in 1..=SERVICES {
        fleet.push(Service::start(number, origin_address, &redis.url()).await?);
    }
    let services: Vec<SocketAddr> = fleet.iter().map(|service| service.address).collect();
    let pages: Vec<String> = (0..PAGES).map(|page| format!("/page/{page}")).collect();
    println!("{SERVICES} processes, {CALLERS} callers a page in each, {PAGES} pages");

    let mut rush = drive::rush(&client, &services, &pages, CALLERS).await;
    let (fetches, most) = origin.fetches();
    println!("cold:    {}", rush.tell());
    println!("         origin: {fetches} fetches for {PAGES} pages, at most {most} a page");
    let mut again = drive::rush(&client, &services, &pages, CALLERS).await;
    println!("warm:    {}", again.tell());
    deletes(&client, &origin, &services, &pages).await?;
    let stopped = stop(&client, &redis, &origin, &services, &pages).await;

    for service in fleet {
        service.end().await?;
    }
    match rush.failed + again.failed + stopped {
        0 if most == 1 => Ok(()),
        0 => Err("a page was fetched more than once".into()),
        failed => Err(format!("{failed} reads failed").into()),
    }
}

/// One process changes pages and deletes them; the others must not serve what was there.
async fn deletes(
    client: &Client,
    origin: &Origin,
    services: &[SocketAddr],
    pages: &[String],
) -> Result<(), BoxError> {
    let (mut deletes, mut reached) = (Vec::new(), Vec::new());
    for page in pages.iter().take(50) {
        let version = format!("version {}\n", origin.publish(page));
        let began = Instant::now();
        client
            .call(hyper::Method::DELETE, services[0], page)
            .await?;
        let deleted = Instant::now();
        deletes.push(deleted - began);
        for &service in &services[1..] {
            loop {
                let read = client.get(service, page).await?;
                if String::from_utf8_lossy(&read.bytes).contains(&version) {
                    break;
                }
                reached.push(deleted.elapsed());
                if deleted.elapsed() > PATIENCE {
                    return Err(format!("{page}: still the old one after {PATIENCE:?}").into());
                }
            }
        }
    }
    deletes.sort_unstable();
    reached.sort_unstable();
    let median = deletes[deletes.len() / 2];
    println!(
        "delete:  50 pages, {median:.1?} each; {} reads elsewhere still got the old one, the last \
         {:.1?} after the delete had returned",
        reached.len(),
        reached.last().copied().unwrap_or_default()
    );
    Ok(())
}

/// The server is stopped for a while, and goes on.
async fn stop(
    client: &Client,
    redis: &Server,
    origin: &Origin,
    services: &[SocketAddr],
    pages: &[String],
) -> u64 {
    let (before, _) = origin.fetches();
    redis.pause();
    let fresh: Vec<String> = (0..20).map(|page| format!("/new/{page}")).collect();
    // As many that all have in memory as nobody has.
    let known = pages.iter().rev().take(fresh.len());
    let mixed: Vec<String> = known.chain(&fresh).cloned().collect();
    let mut away = drive::stroll(client, services, &mixed, STOPPED).await;
    redis.resume();
    let (after, _) = origin.fetches();
    println!("stopped: {}", away.tell());
    println!("         origin: {} fetches in {STOPPED:?}", after - before);
    // Until one process finds in the server what another has put there.
    let began = Instant::now();
    let mut back = 0_u64;
    while began.elapsed() < PATIENCE {
        back += 1;
        let page = format!("/back/{back}");
        if client.get(services[0], &page).await.is_ok()
            && let Ok(read) = client.get(services[1], &page).await
            && read.by == "redis"
        {
            println!(
                "back:    one process reads what another stored after {:.1?}",
                began.elapsed()
            );
            return away.failed;
        }
        sleep(Duration::from_millis(20)).await;
    }
    println!("back:    not within {PATIENCE:?}");
    away.failed + 1
}

/// A process of the service; it ends with its standard input.
struct Service {
    address: SocketAddr,
    child: Child,
}

impl Service {
    async fn start(number: usize, origin: SocketAddr, redis: &str) -> Result<Self, BoxError> {
        let mut child = Command::new(env::current_exe()?)
            .args([
                "serve",
                &format!("service-{number}"),
                &origin.to_string(),
                redis,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().ok_or("a service has an output")?;
        let first = BufReader::new(output).lines().next_line().await?;
        let address = first.ok_or("a service ended before it served")?.parse()?;
        Ok(Self { address, child })
    }

    async fn end(mut self) -> Result<(), BoxError> {
        drop(self.child.stdin.take());
        let status = self.child.wait().await?;
        if !status.success() {
            return Err(format!("a service ended with {status}").into());
        }
        Ok(())
    }
}
