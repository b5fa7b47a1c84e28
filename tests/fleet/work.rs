//! What a member does by itself: reads, writes and deletes of the same few pages at random times,
//! each of which it remembers.

use std::time::Duration;

use futures_util::future::join_all;
use larder::Policy;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

use crate::{
    history::{Op, Record},
    member::{Failed, Member},
    random::Random,
};

/// Tasks that work at the same time.
const TASKS: u64 = 4;
/// The longest that one rests before its next step, in milliseconds.
const REST: u64 = 6;

/// Works for so long on so many pages, and tells what it did.
pub(crate) async fn work(member: &Member, seed: u64, time: Duration, keys: u64) -> String {
    let until = now() + micros(time);
    let tasks = (0..TASKS).map(|task| {
        let random = Random::new(Random::new(seed ^ task).next());
        let member = member.clone();
        tokio::spawn(async move { run(member, random, until, keys).await })
    });
    let mut told = Vec::new();
    for done in join_all(tasks).await {
        told.extend(done.unwrap().iter().map(Record::tell));
    }
    told.join(";")
}

async fn run(member: Member, mut random: Random, until: u64, keys: u64) -> Vec<Record> {
    let mut done = Vec::new();
    while now() < until {
        done.push(step(&member, &mut random, keys).await);
        sleep(random.millis(REST)).await;
    }
    done
}

async fn step(member: &Member, random: &mut Random, keys: u64) -> Record {
    let key = random.below(keys);
    let name = format!("page{key}");
    let start = now();
    let mut record = Record {
        process: 0,
        key,
        op: Op::Delete,
        version: 0,
        start,
        called: start,
        end: start,
        failure: None,
    };
    let done = match random.below(20) {
        0..3 => {
            record.version = member
                .pages
                .publish(&name)
                .await
                .expect("the origin is there");
            record.called = now();
            let deleted = member.cache.delete(&name).await;
            deleted.map(|()| None).map_err(Failed::from)
        }
        3..5 => {
            record.version = member
                .pages
                .publish(&name)
                .await
                .expect("the origin is there");
            record.called = now();
            let written = member.insert(&name, record.version).await;
            let tiers = member.cache.tiers().len();
            let whole = written.as_ref().is_ok_and(|&written| written == tiers);
            record.op = Op::Insert { whole };
            written.map(|_| None).map_err(Failed::from)
        }
        5..8 => {
            record.op = Op::Look { joined: false };
            member.look(&name).await
        }
        _ => {
            record.op = Op::Read { joined: false };
            member.read(&name, lifetimes(random)).await.map(Some)
        }
    };
    record.end = now();
    match done {
        Ok(Some(seen)) => {
            record.version = seen.version;
            record.op = record.op.joined(seen.joined);
        }
        Ok(None) => {}
        Err(failed) => {
            record.version = record.version.max(failed.version);
            record.failure = Some(failed.why);
        }
    }
    record
}

/// Some pages expire at once, some are refreshed behind, most stay.
fn lifetimes(random: &mut Random) -> Policy {
    let (ttl, stale) = match random.below(6) {
        0 => (30, 0),
        1 => (100, 0),
        2 => (100, 1_000),
        _ => (600_000, 0),
    };
    Policy::new()
        .ttl(Duration::from_millis(ttl))
        .stale_while_revalidate(Duration::from_millis(stale))
}

/// In microseconds, by a clock that all processes of a machine share.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    micros(Duration::try_from(now).expect("it began at zero"))
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("it is not that late")
}
