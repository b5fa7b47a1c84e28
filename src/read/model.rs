//! Flights and their spools under a model checker: members, a driver and the table, on threads and
//! tasks that are scheduled at random.

use std::{
    future::{pending, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use futures_util::StreamExt;
use larder_store::{ByteRange, Header, KeyBuf, Reply, Result, Staged};
use shuttle::{future, thread};

use super::{
    body::FlightBody,
    fetcher::Given,
    flight::{Carrier, Flight, Member, Opening, Seen},
    flights::{Began, Boarded, Flights, Turn, Wants, What},
    spool::{Next, SpoolLimits},
};
use crate::{
    bus::Since,
    fetch::{BoxFetch, FetchFuture},
    response::Source,
    sync::Mutex,
};

const RUNS: usize = 1_000;
const CHUNKS: u64 = 6;
const CHUNK: u64 = 100 << 10;

fn key() -> KeyBuf {
    KeyBuf::new("k").expect("a key")
}

/// A window of two chunks, and a spill file of any size, or none.
fn limits(spill: bool) -> SpoolLimits {
    SpoolLimits {
        memory: 250 << 10,
        disk: if spill { u64::MAX } else { 0 },
    }
}

fn opening() -> Arc<Opening> {
    Arc::new(Opening {
        header: Arc::new(Header::default()),
        stored: None,
        len: None,
        source: Source::Origin,
        stale: None,
        revalidated: false,
        too_large_for: None,
        carrier: Carrier::Spooled,
    })
}

/// A backing that remembers what was spilled.
#[derive(Default)]
struct Kept(Mutex<Vec<u8>>);

impl Staged for Kept {
    fn read(self: Arc<Self>, offset: u64, max: usize) -> Reply<'static, Bytes> {
        let kept = self.0.lock().expect("no panic under it");
        let offset = usize::try_from(offset).expect("small");
        Reply::ready(Ok(Bytes::copy_from_slice(&kept[offset..offset + max])))
    }
}

/// Each chunk is filled with its number, so that order and loss show.
fn chunk(number: u64) -> Bytes {
    Bytes::from(vec![
        u8::try_from(number).expect("few");
        usize::try_from(CHUNK).expect("small")
    ])
}

/// What the engine's task does, without a runtime: pulls, spills, waits for readers.
/// Gives the bytes that were spilled.
async fn drive(flight: Arc<Flight>, ahead: bool, end: Result<()>) -> u64 {
    flight.open(opening());
    flight.staged();
    let mut spilled = 0;
    let kept = Arc::new(Kept::default());
    let file: Arc<dyn Staged> = Arc::clone(&kept) as _;
    for number in 0..CHUNKS {
        loop {
            if !ahead && flight.closes_abandoned() {
                flight.fail(larder_store::Error::closed("the flight"));
                return spilled;
            }
            match flight.next(ahead, false) {
                (Next::Pull, _) => break,
                (Next::Wait, progress) => flight.moved(progress).await,
                (Next::Spill(from, chunks), _) => {
                    let bytes = chunks.concat();
                    let mut written = kept.0.lock().expect("no panic under it");
                    let end = usize::try_from(from).expect("small") + bytes.len();
                    written.resize(end, 0);
                    written[end - bytes.len()..].copy_from_slice(&bytes);
                    drop(written);
                    flight.spilled(&file, from, bytes.len() as u64);
                    spilled += bytes.len() as u64;
                }
            }
        }
        flight.append(&chunk(number));
    }
    match end {
        Ok(()) => flight.finish(),
        Err(error) => flight.fail(error),
    }
    spilled
}

/// Reads all there is, and checks each byte against its place.
async fn read(member: Member) -> (u64, Result<()>) {
    match member.opened(|_| true).await {
        Seen::Open(_) => {}
        Seen::Failed(error) => return (0, Err(error)),
        Seen::Nowhere => panic!("it has a source"),
    }
    assert!(
        member.place(0, None),
        "who joined before the start has all of it"
    );
    let mut body = FlightBody::new(member);
    let mut at = 0;
    while let Some(item) = Pin::new(&mut body).next().await {
        match item {
            Ok(bytes) => {
                for &byte in &bytes {
                    assert_eq!(u64::from(byte), at / CHUNK, "byte {at} is another's");
                    at += 1;
                }
            }
            Err(error) => return (at, Err(error)),
        }
        future::yield_now().await;
    }
    (at, Ok(()))
}

fn flight(spill: bool) -> Flight {
    Flight::new(key(), limits(spill), false, None)
}

fn wants(what: What) -> Wants<'static> {
    Wants {
        what,
        keeps_fetcher: false,
        unfit: None,
        accepts: &|_, _| true,
    }
}

fn board(flights: &Flights, what: What, fetcher: Option<BoxFetch>) -> (Member, bool) {
    let make = || flight(true);
    match flights.board(&key(), &wants(what), &mut Given(fetcher), make) {
        Boarded::Joined(boarding) => (boarding.member, false),
        Boarded::Started(member, _) => (member, true),
        Boarded::Wait(_) | Boarded::Alone | Boarded::Full => panic!("there is room"),
    }
}

fn join(flights: &Flights) -> (Member, bool) {
    board(flights, What::Fetch, None)
}

fn member(flight: &Arc<Flight>) -> Member {
    flight.enter(true)
}

/// Readers at their own pace, one that leaves half-way, with and without tiers that set the pace:
/// all who stay get every byte in its place, then the end.
#[test]
fn s24_s26_every_reader_gets_every_byte() {
    for ahead in [true, false] {
        shuttle::check_random(
            move || {
                let flight = Arc::new(flight(true));
                let members: Vec<_> = (0..3).map(|_| member(&flight)).collect();
                let driver = future::spawn(drive(Arc::clone(&flight), ahead, Ok(())));
                let mut members = members.into_iter();
                let leaver = members.next().expect("three");
                let leaver = future::spawn(async move {
                    let _ = leaver.opened(|_| true).await;
                    assert!(leaver.place(0, None));
                    let mut body = FlightBody::new(leaver);
                    let _ = Pin::new(&mut body).next().await;
                });
                let readers: Vec<_> = members.map(|member| future::spawn(read(member))).collect();
                future::block_on(async {
                    for reader in readers {
                        let (len, end) = reader.await.expect("no panic");
                        assert_eq!(len, CHUNKS * CHUNK);
                        end.expect("a clean end");
                    }
                    leaver.await.expect("no panic");
                    driver.await.expect("no panic");
                });
            },
            RUNS,
        );
    }
}

/// A reader at its own pace never makes the flight spill, and the flight never waits for ever.
#[test]
fn s94_a_single_reader_spills_nothing() {
    shuttle::check_random(
        || {
            let flight = Arc::new(flight(true));
            let member = member(&flight);
            let driven = Arc::clone(&flight);
            let driver = future::spawn(drive(driven, false, Ok(())));
            let (len, end) = future::block_on(read(member));
            assert_eq!(len, CHUNKS * CHUNK);
            end.expect("a clean end");
            let spilled = future::block_on(driver).expect("no panic");
            assert_eq!(spilled, 0);
        },
        RUNS,
    );
}

/// Ranges of an unknown length, where nothing can be spilled: a bounded one waits for more bytes
/// than the flight can hold, another reads slowly, a third wants the end. All get their bytes.
#[test]
fn s88_ranges_of_an_unknown_length_get_their_bytes() {
    let len = CHUNKS * CHUNK;
    let ranges = [
        ByteRange::try_from(10..len - 10).expect("a range"),
        ByteRange::from(CHUNK + 1..),
        ByteRange::suffix(CHUNK + 5).expect("a range"),
    ];
    shuttle::check_random(
        move || {
            let flight = Arc::new(flight(false));
            let members = ranges.map(|range| (member(&flight), range));
            let driver = future::spawn(drive(Arc::clone(&flight), false, Ok(())));
            let readers = members.map(|(member, range)| {
                let asked = range.resolve(len).expect("within the object");
                future::spawn(async move {
                    let found = member.seek(range).await.expect("it is found");
                    let start = found.expect("its bytes are there").start;
                    assert_eq!(start, asked.start);
                    let mut body = FlightBody::new(member);
                    let mut at = start;
                    while let Some(item) = Pin::new(&mut body).next().await {
                        for byte in item.expect("bytes") {
                            assert_eq!(u64::from(byte), at / CHUNK);
                            at += 1;
                        }
                        future::yield_now().await;
                    }
                    assert_eq!(at, asked.end);
                })
            });
            future::block_on(async {
                for reader in readers {
                    reader.await.expect("no panic");
                }
                driver.await.expect("no panic");
            });
        },
        RUNS,
    );
}

/// Without a spill file the slowest sets the pace, and still all get every byte.
#[test]
fn s80_without_a_spill_file_the_slowest_sets_the_pace() {
    shuttle::check_random(
        || {
            let flight = Arc::new(flight(false));
            let members = [(); 2].map(|()| member(&flight));
            let driver = future::spawn(drive(Arc::clone(&flight), false, Ok(())));
            let readers = members.map(|member| future::spawn(read(member)));
            future::block_on(async {
                for reader in readers {
                    let (len, end) = reader.await.expect("no panic");
                    assert_eq!(len, CHUNKS * CHUNK);
                    end.expect("a clean end");
                }
                driver.await.expect("no panic");
            });
        },
        RUNS,
    );
}

/// A source that fails after its bytes: readers get the bytes, then the error, never an end.
#[test]
fn s21_a_failure_is_never_a_clean_end() {
    shuttle::check_random(
        || {
            let flight = Arc::new(flight(true));
            let member = member(&flight);
            let error = larder_store::Error::corrupt("cut");
            let driver = future::spawn(drive(Arc::clone(&flight), true, Err(error)));
            let (len, end) = future::block_on(read(member));
            assert_eq!(len, CHUNKS * CHUNK);
            assert!(end.expect_err("it failed").is_corrupt());
            future::block_on(driver).expect("no panic");
        },
        RUNS,
    );
}

/// Many join through the table while the flight ends: each finds one flight or starts its own, all
/// read it whole, and the table is empty at the end.
#[test]
fn s31_s81_joiners_race_the_end() {
    shuttle::check_random(
        || {
            let flights = Arc::new(Flights::new(8));
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    let flights = Arc::clone(&flights);
                    thread::spawn(move || {
                        let (member, first) = join(&flights);
                        let flight = Arc::clone(member.flight());
                        let driver = first.then(|| {
                            let flights = Arc::clone(&flights);
                            future::spawn(async move {
                                drive(Arc::clone(&flight), true, Ok(())).await;
                                flights.remove(&flight);
                            })
                        });
                        let (len, end) = future::block_on(read(member));
                        assert_eq!(len, CHUNKS * CHUNK);
                        end.expect("a clean end");
                        if let Some(driver) = driver {
                            future::block_on(driver).expect("no panic");
                        }
                    })
                })
                .collect();
            for reader in readers {
                reader.join().expect("no panic");
            }
            assert_eq!(flights.len(), 0, "s18: nothing stays");
        },
        RUNS,
    );
}

/// Who waits for what comes whole is woken, whenever it came; one of them leaves before.
#[test]
fn s31_who_waits_for_what_comes_whole_is_woken() {
    shuttle::check_random(
        || {
            let flights = Arc::new(Flights::new(8));
            let never = |_| Box::pin(pending()) as FetchFuture;
            let (first, _) = board(&flights, What::Fetch, Some(Box::new(never)));
            let flight = Arc::clone(first.flight());
            let driver = {
                let flights = Arc::clone(&flights);
                future::spawn(async move {
                    assert!(flight.fetching(None).is_some());
                    future::yield_now().await;
                    let mut opening = opening();
                    let whole = Carrier::Whole(Bytes::from_static(b"whole"));
                    Arc::get_mut(&mut opening).expect("its only owner").carrier = whole;
                    flight.open(opening);
                    flight.finish();
                    flights.remove(&flight);
                })
            };
            let waiters: Vec<_> = (0..3)
                .map(|number| {
                    let flights = Arc::clone(&flights);
                    future::spawn(async move {
                        let mut waiter = pin!(wait(&flights));
                        if number > 0 {
                            return waiter.await;
                        }
                        // Polled once, and away.
                        let _ = waiter
                            .as_mut()
                            .poll(&mut Context::from_waker(Waker::noop()));
                    })
                })
                .collect();
            future::block_on(async {
                assert!(matches!(first.opened(|_| true).await, Seen::Open(_)));
                for waiter in waiters {
                    waiter.await.expect("no panic");
                }
                driver.await.expect("no panic");
            });
            assert_eq!(flights.len(), 0);
        },
        RUNS,
    );
}

/// What a read does that finds a flight: it has the object, or came too late.
async fn wait(flights: &Flights) {
    let mut member = None;
    let seen = poll_fn(|cx| {
        if member.is_none() {
            let found = flights.find("k", &wants(What::Fetch), cx.waker(), &mut Given(None));
            let Some(boarding) = found else {
                return Poll::Ready(None);
            };
            member = Some(boarding.member);
            if boarding.waits {
                return Poll::Pending;
            }
        }
        member.as_mut().expect("set above").poll_whole(|_| true, cx)
    });
    assert!(matches!(seen.await, None | Some(Seen::Open(_))));
}

/// A delete retires the flight and then publishes its absence under the key's turn; the flight
/// publishes under the turn unless it was retired. Whatever the order, what was fetched before the
/// delete is not there after it.
#[test]
fn s12_s74_a_retired_flight_publishes_nothing() {
    shuttle::check_random(
        || {
            let flights = Arc::new(Flights::new(8));
            let turns = crate::turns::Turns::new();
            let stored = Arc::new(Mutex::new(false));
            let (member, _) = join(&flights);
            let flight = Arc::clone(member.flight());
            let filler = {
                let (turns, stored, flights) =
                    (turns.clone(), Arc::clone(&stored), Arc::clone(&flights));
                future::spawn(async move {
                    let turn = turns.take(&key()).await;
                    if !flight.is_retired() {
                        *stored.lock().expect("no panic under it") = true;
                    }
                    drop(turn);
                    flights.remove(&flight);
                })
            };
            future::block_on(async {
                let turn = turns.take(&key()).await;
                flights.retire(&key());
                *stored.lock().expect("no panic under it") = false;
                drop(turn);
            });
            let (_newer, first) = join(&flights);
            assert!(first, "s74: nobody joins what was begun before the delete");
            future::block_on(filler).expect("no panic");
            assert!(!*stored.lock().expect("no panic under it"), "brought back");
            drop(member);
        },
        RUNS,
    );
}

/// Refreshes of one key in three tasks: one runs at a time, at most one waits, all come to their
/// turn, and the table is empty at the end.
#[test]
fn s86_one_refresh_runs_and_one_waits() {
    shuttle::check_random(
        || {
            let flights = Arc::new(Flights::new(8));
            let running = Arc::new(Mutex::new(0));
            let refreshes: Vec<_> = (0..3)
                .map(|_| {
                    let (flights, running) = (Arc::clone(&flights), Arc::clone(&running));
                    future::spawn(refresh(flights, running))
                })
                .collect();
            future::block_on(async {
                for refresh in refreshes {
                    refresh.await.expect("no panic");
                }
            });
            assert_eq!(flights.len(), 0, "s18: nothing stays");
        },
        RUNS,
    );
}

async fn refresh(flights: Arc<Flights>, running: Arc<Mutex<u32>>) {
    let make = || Flight::new(key(), limits(true), true, None);
    let boarded = flights.board(&key(), &wants(What::Refresh), &mut Given(None), make);
    let (member, began) = match boarded {
        // Somebody else's flight, which had not begun.
        Boarded::Joined(boarding) => return drop(boarding),
        Boarded::Started(member, began) => (member, began),
        Boarded::Wait(_) | Boarded::Alone | Boarded::Full => panic!("there is room"),
    };
    let flight = Arc::clone(member.flight());
    if began == Began::Waits {
        while let Turn::Wait(ended) = flights.begin(&flight, Since::default()) {
            let _ = ended.await;
        }
    }
    let begin = |by: i32| {
        let mut running = running.lock().expect("no panic under it");
        *running = running.checked_add_signed(by).expect("never below zero");
        assert!(*running <= 1, "two refreshes run at once");
    };
    begin(1);
    future::yield_now().await;
    begin(-1);
    flights.remove(&flight);
}
