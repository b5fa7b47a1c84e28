//! The link against real servers.

#[cfg(feature = "cluster")]
mod cluster;
mod holding;
mod limits;
mod loss;
mod requests;

use std::time::Duration;

use larder_servers::Server;

use super::{Link, Settings};

/// Time enough for what ends by itself, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection, and the shortest time-out that a busy machine keeps.
fn settings(url: &str) -> Settings {
    Settings {
        urls: vec![url.to_owned()],
        cluster: false,
        connections: 1,
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(1),
        seed: 7,
    }
}

async fn link_to(server: &Server) -> Link {
    Link::connect(settings(&server.url())).await.unwrap()
}

fn get(key: &str) -> redis::Cmd {
    let mut command = redis::cmd("GET");
    command.arg(key);
    command
}

fn set(key: &str, value: &str) -> redis::Cmd {
    let mut command = redis::cmd("SET");
    command.arg(key).arg(value);
    command
}

/// The id by which the server knows the connection of this hash.
async fn id(link: &Link) -> u64 {
    let mut command = redis::cmd("CLIENT");
    command.arg("ID");
    link.command(0, &command).await.unwrap()
}

/// Asks until the answer comes.
async fn until_served(link: &Link) {
    let asking = async {
        while link.command::<()>(0, &redis::cmd("PING")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("the link recovers by itself");
}
