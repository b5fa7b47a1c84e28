//! Requests and their replies, and what the server refuses.

use futures_util::future::join_all;
use larder_servers::Server;
use larder_store::ErrorKind;

use super::{super::Script, Link, get, link_to, set, settings};

#[tokio::test]
async fn a_value_comes_back_over_tcp_and_a_unix_socket() {
    let server = Server::start();
    for url in [server.url(), server.unix_url()] {
        let link = Link::connect(settings(&url)).await.unwrap();
        link.command::<()>(1, &set("key", &url)).await.unwrap();
        assert_eq!(link.read::<String>(1, &get("key")).await.unwrap(), url);
        let absent: Option<Vec<u8>> = link.read(1, &get("absent")).await.unwrap();
        assert_eq!(absent, None);
    }
}

#[tokio::test]
async fn nagle_is_off() {
    // Of a socket the kernel tells only its owner, which is the library: so by what it was told.
    let info = redis::IntoConnectionInfo::into_connection_info("redis://127.0.0.1").unwrap();
    let dialer = super::super::dialer::Dialer::new(info, &settings(""));
    assert!(dialer.info().tcp_settings().nodelay());
}

#[tokio::test]
async fn a_script_is_loaded_when_the_server_does_not_know_it() {
    let server = Server::start();
    let link = link_to(&server).await;
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    for expected in [5, 10] {
        let sum: i64 = link.run(3, &script, &[b"n"], &[b"5"]).await.unwrap();
        assert_eq!(sum, expected);
    }
    server.ask::<()>(&["SCRIPT", "FLUSH"]);
    let sum: i64 = link.run(3, &script, &[b"n"], &[b"5"]).await.unwrap();
    assert_eq!(sum, 15);
}

#[tokio::test]
async fn a_script_sees_what_is_sent_ahead_of_it_also_when_it_is_unknown() {
    let server = Server::start();
    let link = link_to(&server).await;
    let script = Script::new("return redis.call('APPEND', KEYS[1], ARGV[1])");
    let append = async |first| {
        let args: [&[u8]; 1] = [b"xyz"];
        link.run_after::<i64>(3, first, &script, &[b"n"], &args)
            .await
    };
    // Twice: the server gets to know it.
    for _ in 0..2 {
        assert_eq!(append(set("n", "ab")).await.unwrap(), 5);
        assert_eq!(server.ask::<String>(&["GET", "n"]), "abxyz");
    }
    let mut wrong = redis::cmd("LPUSH");
    wrong.arg("n").arg("x");
    let refused = append(wrong).await.unwrap_err();
    assert!(refused.is_corrupt(), "{refused:?}");
}

#[tokio::test]
async fn a_pipeline_gives_the_replies_that_are_wanted() {
    let server = Server::start();
    let link = link_to(&server).await;
    let mut pipeline = redis::pipe();
    pipeline.cmd("SET").arg("a").arg(1).ignore();
    pipeline.cmd("INCR").arg("a").cmd("STRLEN").arg("a");
    let replies: (i64, i64) = link.pipeline(0, &pipeline).await.unwrap();
    assert_eq!(replies, (2, 1));
    pipeline.cmd("LPUSH").arg("a").arg("x");
    let refused = link.pipeline::<()>(0, &pipeline).await.unwrap_err();
    assert!(refused.is_corrupt(), "{refused:?}");
}

#[tokio::test]
async fn requests_of_one_hash_keep_their_order_also_when_dropped() {
    let server = Server::start();
    let mut settings = settings(&server.url());
    settings.connections = 4;
    let link = Link::connect(settings).await.unwrap();
    let mut sent = 0;
    for round in 0..20_u64 {
        // Paused, the server then finds all that was sent at once, whatever way it came.
        server.pause();
        let values: Vec<String> = (0..5 + round % 4).map(|n| format!("{round}-{n}")).collect();
        let (last, dropped) = values.split_last().unwrap();
        for value in dropped {
            let command = set("key", value);
            tokio::select! {
                biased;
                _ = link.command::<()>(9, &command) => unreachable!("the server is paused"),
                // The connection's task writes it meanwhile.
                () = tokio::task::yield_now() => {}
            }
        }
        let command = set("key", last);
        let mut sending = std::pin::pin!(link.command::<()>(9, &command));
        tokio::select! {
            biased;
            _ = &mut sending => unreachable!("the server is paused"),
            () = tokio::task::yield_now() => {}
        }
        server.resume();
        sending.await.unwrap();
        let kept: String = link.command(9, &get("key")).await.unwrap();
        assert_eq!(kept, *last);
        sent += values.len();
    }
    let ran: String = server.ask(&["INFO", "commandstats"]);
    assert!(
        ran.contains(&format!("cmdstat_set:calls={sent},")),
        "all were sent: {ran}"
    );
}

#[tokio::test]
async fn many_callers_share_few_connections() {
    let server = Server::start();
    let link = link_to(&server).await;
    let incr = { redis::cmd("INCR").arg("n").clone() };
    let calls = (0..3000).map(|_| link.command::<i64>(0, &incr));
    let mut counts: Vec<i64> = join_all(calls)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=3000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_without_memory_is_full() {
    let server = Server::start();
    let link = link_to(&server).await;
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = link
        .command::<()>(0, &set("key", "value"))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full, "{refused:?}");
    let script = Script::new("return redis.call('SET', KEYS[1], ARGV[1])");
    let refused = link
        .run::<()>(0, &script, &[b"key"], &[b"value"])
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Full, "{refused:?}");
}

#[tokio::test]
async fn a_replica_is_unavailable_for_writes() {
    let server = Server::start();
    let link = link_to(&server).await;
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]);
    let refused = link
        .command::<()>(0, &set("key", "value"))
        .await
        .unwrap_err();
    assert!(refused.is_unavailable(), "{refused:?}");
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_repeated() {
    let server = Server::start();
    server.ask::<()>(&["CONFIG", "SET", "requirepass", "right"]);
    for user in ["", "somebody"] {
        let url = server.url().replace("//", &format!("//{user}:hunter2@"));
        let refused = Link::connect(settings(&url)).await.err().unwrap();
        assert!(refused.is_invalid(), "{refused:?}");
        assert!(refused.to_string().contains("password"), "{refused}");
        assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
    }
    let refused = Link::connect(settings(&server.url())).await.err().unwrap();
    assert!(refused.is_invalid(), "{refused:?}");
    let url = server.url().replace("//", "//:right@");
    let link = Link::connect(settings(&url)).await.unwrap();
    link.command::<()>(0, &redis::cmd("PING")).await.unwrap();
}

#[tokio::test]
async fn a_wrong_url_is_told_and_not_repeated() {
    for url in [
        "http://user:hunter2@host",
        "hunter2",
        "redis://:hunter2@host/base",
        "redis://:hunter2@host/?protocol=hunter2",
        "redis://:hunter2@0.0.0.0",
    ] {
        let refused = Link::connect(settings(url)).await.err().unwrap();
        assert!(refused.is_invalid(), "{refused:?}");
        assert!(!format!("{refused:?}").contains("hunter2"), "{refused:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let refused = Link::connect(settings("redis://127.0.0.1:1"))
        .await
        .err()
        .unwrap();
    assert!(refused.is_unavailable(), "{refused:?}");
    assert!(refused.to_string().contains("127.0.0.1:1"), "{refused}");
}

#[tokio::test]
async fn a_user_of_few_rights_is_served_nevertheless() {
    let server = Server::start();
    server.ask::<()>(&[
        "ACL",
        "SETUSER",
        "guest",
        "on",
        ">secret",
        "~*",
        "+@all",
        "-@dangerous",
        "-client|id",
    ]);
    let url = server.url().replace("//", "//guest:secret@");
    let link = Link::connect(settings(&url)).await.unwrap();
    link.command::<()>(0, &set("key", "value")).await.unwrap();
    let refused = link
        .command::<()>(0, &redis::cmd("FLUSHALL"))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Other, "{refused:?}");
    server.ask::<()>(&["CLIENT", "KILL", "TYPE", "normal"]);
    super::until_served(&link).await;
}

#[tokio::test]
async fn a_scan_gives_every_name_of_the_pattern() {
    let server = Server::start();
    let link = link_to(&server).await;
    for n in 0..500 {
        let mine = if n % 2 == 0 { "mine" } else { "other" };
        link.command::<()>(0, &set(&format!("{mine}:{n}"), ""))
            .await
            .unwrap();
    }
    let mut scan = link.scan(b"mine:*".to_vec(), 50);
    let mut names = Vec::new();
    while let Some(some) = scan.next().await.unwrap() {
        names.extend(some);
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 250);
    assert!(names.iter().all(|name| name.starts_with(b"mine:")));
}

#[tokio::test]
async fn messages_come_over_a_connection_of_their_own() {
    use futures_util::StreamExt as _;

    let server = Server::start();
    let link = link_to(&server).await;
    let mut pubsub = link.pubsub().await.unwrap();
    pubsub.subscribe("bus").await.unwrap();
    let mut publish = redis::cmd("PUBLISH");
    publish.arg("bus").arg("hello");
    assert_eq!(link.command::<u32>(0, &publish).await.unwrap(), 1);
    let message = pubsub.on_message().next().await.unwrap();
    assert_eq!(message.get_payload_bytes(), b"hello");
}

#[tokio::test]
async fn a_closed_link_says_so() {
    let server = Server::start();
    let link = link_to(&server).await;
    let other = link.clone();
    link.close();
    let refused = other
        .command::<()>(0, &redis::cmd("PING"))
        .await
        .unwrap_err();
    assert!(refused.is_closed(), "{refused:?}");
    let refused = other.read::<()>(0, &redis::cmd("PING")).await.unwrap_err();
    assert!(refused.is_closed(), "{refused:?}");
}
