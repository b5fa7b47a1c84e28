//! The bus, where a store claims it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::join_all};
use larder_store::{Bus, Deliveries, Delivery, KeyBuf, Message, Notice, Store};

use crate::{Setup, Subject, probe::bounded};

/// By then a message has come, or never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// `Bus` carries every message to all who listen, as long as nothing disturbs it, and waits for
/// none of them. Passes where the store does not claim it.
pub async fn capability_bus(subject: &impl Subject) {
    let store = Arc::new(subject.make(Setup::default()).await);
    if store.as_bus().is_none() {
        return;
    }
    before_anyone_listens(&*store).await;
    all_hear_all(&store).await;
    every_notice(&*store).await;
    nobody_waits_for_a_subscriber(&*store).await;
    the_end(&store).await;
}

fn bus<S: Store>(store: &S) -> &dyn Bus {
    let bus = store.as_bus();
    bus.expect("it was there when it was asked for")
}

fn message(publisher: u64, sequence: u64, notice: Notice) -> Message {
    Message {
        publisher,
        epoch: 1,
        sequence,
        notice,
    }
}

fn about(key: u64) -> Notice {
    let key = KeyBuf::new(&format!("key/{key}"));
    Notice::Keys(vec![key.expect("the clauses use valid keys")])
}

async fn publish<S: Store>(store: &S, message: &Message) {
    let published = bus(store).publish(message).await;
    published.expect("a message can be published");
}

async fn subscribe<S: Store>(store: &S) -> Deliveries {
    let subscribed = bus(store).subscribe().await;
    subscribed.expect("a store can be listened to")
}

async fn hear(deliveries: &mut Deliveries, what: &str) -> Delivery {
    let heard = bounded(PATIENCE, what, deliveries.next()).await;
    heard.expect("a bus does not end before its store is closed")
}

async fn before_anyone_listens<S: Store>(store: &S) {
    publish(store, &message(1, 1, Notice::All)).await;
    drop(subscribe(store).await);
    publish(store, &message(1, 2, Notice::All)).await;
}

/// What is published after a subscription is heard by each who listens, in the order of each
/// publisher, once; whether they wait for it already or not.
async fn all_hear_all<S: Store>(store: &Arc<S>) {
    const EARLY: u64 = 20;
    const COUNT: u64 = 300;
    const PUBLISHERS: [u64; 2] = [2, u64::MAX];
    let mut subscribers = Vec::new();
    for _ in 0..3 {
        subscribers.push(subscribe(&**store).await);
    }
    for sequence in 1..=EARLY {
        for publisher in PUBLISHERS {
            publish(&**store, &message(publisher, sequence, about(sequence))).await;
        }
    }
    let subscribers = subscribers.into_iter().map(|mut deliveries| {
        tokio::spawn(async move {
            let mut heard = HashMap::new();
            while PUBLISHERS.iter().any(|it| heard.get(it) != Some(&COUNT)) {
                let delivery = hear(&mut deliveries, "what was published").await;
                let Delivery::Message(found) = delivery else {
                    panic!("nothing was disturbed, but something was lost after {heard:?}");
                };
                // What was published before they listened may be on its way yet.
                if !PUBLISHERS.contains(&found.publisher) {
                    continue;
                }
                let sequence = heard.entry(found.publisher).or_insert(0);
                *sequence += 1;
                let wanted = message(found.publisher, *sequence, about(*sequence));
                assert_eq!(found, wanted, "the next message of its publisher");
            }
        })
    });
    let subscribers: Vec<_> = subscribers.collect();
    let publishers = PUBLISHERS.map(|publisher| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for sequence in EARLY + 1..=COUNT {
                publish(&*store, &message(publisher, sequence, about(sequence))).await;
            }
        })
    });
    for joined in join_all(publishers.into_iter().chain(subscribers)).await {
        joined.expect("all is published, and heard");
    }
}

/// Whatever can be said arrives as it was said.
async fn every_notice<S: Store>(store: &S) {
    let mut deliveries = subscribe(store).await;
    let key = |text: &str| KeyBuf::new(text).expect("the clauses use valid keys");
    let odd = ["\0", "\r\n", "a b", "$1\r\n", "日本", "a/../b", "*", "é"];
    let most = (0..Message::KEYS_MAX).map(|id| key(&format!("{id:0>4096}")));
    let notices = [
        Notice::Beat,
        Notice::All,
        Notice::Keys(Vec::new()),
        Notice::Keys(odd.map(key).into()),
        Notice::Keys(most.collect()),
        // It is the cache's business that nothing follows.
        Notice::Leave,
        Notice::Beat,
    ];
    for notice in notices {
        for number in [0, 1, u64::MAX] {
            let wanted = Message {
                publisher: number,
                epoch: number,
                sequence: number,
                notice: notice.clone(),
            };
            publish(store, &wanted).await;
            let heard = hear(&mut deliveries, "a notice").await;
            assert!(heard == Delivery::Message(wanted), "another message");
        }
    }
}

/// One who does not listen keeps nobody waiting. When they do, they hear in order what there was,
/// or of each gap that there is one.
async fn nobody_waits_for_a_subscriber<S: Store>(store: &S) {
    const COUNT: u64 = 10_000;
    const QUIET: Duration = Duration::from_millis(500);
    let mut deaf = subscribe(store).await;
    for sequence in 1..=COUNT {
        let message = message(3, sequence, about(sequence));
        let published = publish(store, &message);
        bounded(PATIENCE, "publishing", published).await;
    }
    let (mut newest, mut heard, mut lost) = (COUNT, 0, false);
    while heard < newest {
        match tokio::time::timeout(QUIET, deaf.next()).await {
            Ok(None) => panic!("a bus does not end before its store is closed"),
            // The newest may be among the lost; then another one is heard.
            Err(_) => {
                newest += 1;
                assert!(newest < COUNT + 20, "nothing is heard after {heard}");
                publish(store, &message(3, newest, about(newest))).await;
            }
            Ok(Some(Delivery::Lost)) => lost = true,
            Ok(Some(Delivery::Message(found))) => {
                let sequence = found.sequence;
                assert_eq!(found, message(3, sequence, about(sequence)));
                assert!(sequence > heard, "{sequence} was heard after {heard}");
                let gap = sequence - heard - 1;
                assert!(gap == 0 || lost, "{gap} messages are missing unsaid");
                (heard, lost) = (sequence, false);
            }
        }
    }
}

/// A bus ends with its store, for those who wait and for those who do not.
async fn the_end<S: Store>(store: &Arc<S>) {
    let mut waiting = subscribe(&**store).await;
    let waiting = tokio::spawn(async move { while waiting.next().await.is_some() {} });
    let mut unread = subscribe(&**store).await;
    publish(&**store, &message(4, 1, Notice::Leave)).await;
    store.close().await.expect("a close succeeds");
    let waited = bounded(PATIENCE, "the end of a bus", waiting).await;
    waited.expect("a subscriber may wait for the end");
    let rest = async { while unread.next().await.is_some() {} };
    bounded(PATIENCE, "the end of what was not read", rest).await;
}
