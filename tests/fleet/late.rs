//! What a server takes in only after its sender has given up.

use std::time::Duration;

use larder_servers::{Proxy, Server, Way};
use tokio::time::sleep;

use crate::{
    origin::Origin,
    outages::is_shared_again,
    process::Process,
    settings::{Private, Settings},
};

const SECOND: Duration = Duration::from_secs(1);

/// The network holds a write up, another process deletes, and then the network lets the write go.
///
/// Before the write there are failures, so that in one round or another it is the write that opens
/// the breaker, and nothing can be sent after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s73_a_write_that_was_given_up_does_not_come_back_over_a_delete() {
    let (server, origin) = (Server::start(), Origin::start(Duration::ZERO).await);
    let proxy = Proxy::start(server.address()).await;
    let settings = Settings {
        response: SECOND / 4,
        lease_wait: SECOND / 4,
        ..Settings::new(origin.address, server.url())
    };
    let apart = Settings {
        redis: proxy.url(),
        ..settings.clone()
    };
    let bare = Settings {
        private: Private::None,
        ..settings
    };
    let members = Process::start_all([apart, bare]).await;
    let [apart, other] = &members[..] else {
        unreachable!("they are two")
    };
    for failures in 0..6 {
        let key = format!("page{failures}");
        proxy.hold_only(Way::Requests);
        for failure in 0..failures {
            apart.read(&format!("missed{failures}-{failure}")).await;
        }
        let version = origin.publish(&key);
        let written = apart.ask(&format!("set {key} {version}")).await;
        assert_eq!(written.as_deref(), Ok("1"), "the memory has it");
        other.delete(&key).await;
        proxy.pass();
        for _ in 0..50 {
            let found = other.look(&key).await;
            assert_eq!(found, None, "after {failures} failures");
            sleep(SECOND / 100).await;
        }
        is_shared_again(&format!("back{failures}-"), other, apart).await;
    }
}
