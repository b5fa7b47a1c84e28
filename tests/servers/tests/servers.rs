//! The servers that tests start, and what is done to them.
#![expect(clippy::disallowed_methods, reason = "servers run in real time")]

use std::{net::TcpListener, path::Path, time::Duration};

use larder_servers::{Cluster, Server};

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn each_server_is_its_own_and_ends_with_its_value() {
    let [one, other] = [Server::start(), Server::start()];
    one.ask::<()>(&["SET", "a", "1"]);
    assert_eq!(other.ask::<u32>(&["DBSIZE"]), 0);
    let info: String = one.ask(&["INFO", "server"]);
    assert!(
        info.contains(&format!("process_id:{}", one.pid())),
        "{info}"
    );
    let (pid, folder) = (one.pid(), one.unix_socket());
    assert!(runs(pid) && folder.exists());
    drop(one);
    assert!(!runs(pid) && !folder.exists());
    assert!(runs(other.pid()));
}

#[test]
fn a_panic_ends_the_server() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let test = std::thread::spawn(move || {
        let server = Server::start();
        server.pause();
        sender.send(server.pid()).unwrap();
        panic!("a test fails");
    });
    test.join().unwrap_err();
    assert!(!runs(receiver.recv().unwrap()));
}

#[test]
fn a_killed_server_comes_back_empty_at_the_same_place() {
    let server = Server::builder().config("maxmemory", "64mb").start();
    server.ask::<()>(&["SET", "a", "1"]);
    let (pid, url) = (server.pid(), server.url());
    server.kill();
    assert!(!runs(pid));
    assert!(std::net::TcpStream::connect(server.address()).is_err());
    server.restart();
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), pid);
    assert_eq!(server.ask::<u32>(&["DBSIZE"]), 0);
    let config: Vec<String> = server.ask(&["CONFIG", "GET", "maxmemory"]);
    assert_eq!(config[1], "67108864");
}

#[test]
fn a_server_waits_for_its_port_to_come_back() {
    let server = Server::start();
    server.kill();
    let thief = TcpListener::bind(server.address()).unwrap();
    let (began, heard) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            began.send(()).unwrap();
            server.restart();
        });
        heard.recv().unwrap();
        // Long enough for a server to have tried; the outcome is the same if it has not.
        std::thread::sleep(Duration::from_millis(200));
        drop(thief);
    });
    assert_eq!(server.ask::<String>(&["PING"]), "PONG");
}

#[test]
fn a_paused_server_says_nothing_until_it_goes_on() {
    let server = Server::start();
    let mut connection = server.connection();
    server.pause();
    connection
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let error = redis::cmd("PING").query::<()>(&mut connection).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    server.resume();
    assert_eq!(server.ask::<String>(&["PING"]), "PONG");
}

#[test]
fn the_unix_socket_leads_to_the_same_server() {
    let server = Server::start();
    server.ask::<()>(&["SET", "a", "1"]);
    let client = redis::Client::open(server.unix_url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let value: u32 = redis::cmd("GET").arg("a").query(&mut connection).unwrap();
    assert_eq!(value, 1);
}

#[test]
#[should_panic(expected = "no-such-setting")]
fn what_the_server_says_is_told_when_it_does_not_start() {
    Server::builder().config("no-such-setting", "1").start();
}

#[test]
fn a_slot_moves_step_by_step_with_its_keys() {
    let cluster = Cluster::start();
    let slot = cluster.slot("{t}a");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    let ask = |node: usize, key: &str| {
        cluster.nodes()[node]
            .try_ask::<Option<u32>>(&["GET", key])
            .map_err(|e| e.code().map(str::to_owned))
    };
    let [moved, asked] = ["MOVED", "ASK"].map(|code| Err(Some(code.to_owned())));
    for key in ["{t}a", "{t}b"] {
        cluster.nodes()[from].ask::<()>(&["SET", key, "1"]);
    }
    assert_eq!(ask(to, "{t}a"), moved);
    let moving = cluster.begin_move(slot, to);
    assert_eq!(ask(from, "{t}a"), Ok(Some(1)));
    assert_eq!(ask(from, "{t}c"), asked);
    assert_eq!(moving.keys(1), 1);
    assert_eq!((moving.keys(9), moving.keys(9)), (1, 0));
    assert_eq!(ask(from, "{t}a"), asked);
    moving.finish();
    assert_eq!(cluster.owner(slot), to);
    assert_eq!(ask(from, "{t}a"), moved);
    assert_eq!(
        (ask(to, "{t}a"), ask(to, "{t}b")),
        (Ok(Some(1)), Ok(Some(1)))
    );
    cluster.move_slot(slot, from);
    assert_eq!(
        (ask(from, "{t}a"), ask(from, "{t}c")),
        (Ok(Some(1)), Ok(None))
    );
}

#[test]
fn a_killed_node_is_missed_and_comes_back() {
    let cluster = Cluster::start();
    assert_eq!(cluster.urls().len(), 3);
    let slot = cluster.slot("a");
    let owner = cluster.owner(slot);
    let other = &cluster.nodes()[(owner + 1) % 3];
    cluster.kill(owner);
    let info = || other.ask::<String>(&["CLUSTER", "INFO"]);
    // They take two seconds or more.
    for _ in 0..1000 {
        if info().contains("cluster_state:fail") {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let error = other.try_ask::<()>(&["GET", "a"]).unwrap_err();
    assert_eq!(error.code(), Some("CLUSTERDOWN"), "{error}");
    cluster.restart(owner);
    cluster.wait_until_whole();
    assert_eq!(cluster.owner(slot), owner);
    assert_eq!(
        cluster.nodes()[owner].ask::<Option<u32>>(&["GET", "a"]),
        None
    );
}
