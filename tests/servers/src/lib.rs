//! Real servers, and a network that fails on command, for the tests of Larder.
//!
//! [`Server`] is a Redis server of the test's own, [`Cluster`] three of them that share the slots.
//! Each has its own ports on the loopback interface and its own folder, and ends with its value,
//! also when the test panics. [`Proxy`] stands between a client and any server.
//!
//! ```
//! use larder_servers::{Proxy, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let server = Server::start();
//! let proxy = Proxy::start(server.address()).await;
//! assert_eq!(server.ask::<String>(&["SET", "a", "1"]), "OK");
//! proxy.hold(); // What the client of `proxy.url()` sends from here on waits.
//! server.kill();
//! server.restart(); // The same port, and empty.
//! # }
//! ```
//!
//! The program is `redis-server`, or what `LARDER_REDIS_SERVER` names: `valkey-server` runs the
//! same tests.
//!
//! Everything here panics when it cannot do what it is asked: a test has no use for the error.
//! Calls that are not `async` block for the milliseconds that a server needs to start.
#![allow(clippy::missing_panics_doc)] // See above.

mod cluster;
mod log;
mod move_slot;
mod process;
mod proxy;
mod server;

pub use cluster::Cluster;
pub use move_slot::SlotMove;
pub use proxy::{Proxy, Way};
pub use server::{Builder, Server};

/// How long a server may take to do what it does in milliseconds, on a machine that is busy.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// How often a server is asked whether it has done it, until [`PATIENCE`] ends.
const ATTEMPTS: u32 = 1500;

/// Waits a little before a server is asked again.
#[expect(
    clippy::disallowed_methods,
    reason = "servers run in real time, whatever the test does to its own"
)]
fn nap() {
    std::thread::sleep(PATIENCE / ATTEMPTS);
}
