//! Runs on a server, which counts by itself what it holds.

use larder_servers::Server;

use crate::{output, reports};

#[test]
fn a_run_on_a_server_does_not_tell_what_it_holds() {
    let server = Server::start();
    let url = format!("{}/?chunk_size=4KiB&connections=1", server.url());
    let words = [
        &url, "--keys", "20", "--size", "10KiB", "--count", "300", "--tasks", "4",
    ];
    let text = output(&words);
    assert!(text.contains("hit ratio        100.00 %"), "{text}");
    let held = text.lines().find(|line| line.contains("held")).unwrap();
    assert!(held.contains("unknown"), "{held}");
    let [report] = reports(&words).try_into().unwrap();
    assert!(report.elsewhere && report.entries == 0);
    assert_eq!(report.store, "redis");
    let manifests: Vec<String> = server.ask(&["KEYS", "larder-bench:*:m:*"]);
    assert_eq!(manifests.len(), 20);
}
