//! Flaws in what subscribers hear.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{FutureExt, StreamExt, stream};
use larder_conformance::Model;
use larder_store::{Bus, Deliveries, Delivery, Message, Notice, Reply, Store};
use tokio::sync::mpsc;

use super::now;
use crate::flaw::Flaw;

fn bus(model: &Model) -> &dyn Bus {
    model.as_bus().expect("the model has it")
}

/// Drops what a subscriber has no room for, and says nothing.
#[derive(Debug, Default)]
pub(crate) struct SilentOverflow;

impl Flaw for SilentOverflow {
    fn subscribe<'a>(&'a self, model: &'a Model) -> Reply<'a, Deliveries> {
        Reply::ready(now(bus(model).subscribe()).map(|deliveries| {
            let heard = |delivery: &Delivery| std::future::ready(*delivery != Delivery::Lost);
            Box::pin(deliveries.filter(heard)) as Deliveries
        }))
    }
}

/// Begins to listen when the stream is first polled.
#[derive(Debug, Default)]
pub(crate) struct ListensLate;

impl Flaw for ListensLate {
    fn subscribe<'a>(&'a self, model: &'a Model) -> Reply<'a, Deliveries> {
        let model = model.clone();
        let listening = async move { now(bus(&model).subscribe()) };
        let deliveries = listening.into_stream().filter_map(async |it| it.ok());
        Reply::ready(Ok(Box::pin(deliveries.flatten())))
    }
}

/// Hands each message to one subscriber, like a queue of work.
#[derive(Debug, Default)]
pub(crate) struct OneOfThemHears(AtomicU64);

impl Flaw for OneOfThemHears {
    fn subscribe<'a>(&'a self, model: &'a Model) -> Reply<'a, Deliveries> {
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        Reply::ready(now(bus(model).subscribe()).map(|deliveries| {
            let heard = move |delivery: &Delivery| {
                let mine = match delivery {
                    Delivery::Message(message) => message.sequence % 3 == turn % 3,
                    Delivery::Lost => true,
                };
                std::future::ready(mine)
            };
            Box::pin(deliveries.filter(heard)) as Deliveries
        }))
    }
}

/// Takes part of what is said, for the packet to stay small.
#[derive(Debug, Default)]
pub(crate) struct KeysAreCut;

impl Flaw for KeysAreCut {
    fn publish<'a>(&'a self, model: &'a Model, message: &'a Message) -> Reply<'a, ()> {
        let mut message = message.clone();
        if let Notice::Keys(keys) = &mut message.notice {
            keys.truncate(100);
        }
        Reply::ready(now(bus(model).publish(&message)))
    }
}

/// Sends by more than one connection.
#[derive(Debug, Default)]
pub(crate) struct OutOfOrder(Mutex<VecDeque<Message>>);

impl Flaw for OutOfOrder {
    fn publish<'a>(&'a self, model: &'a Model, message: &'a Message) -> Reply<'a, ()> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let early = message.sequence <= 20 && message.publisher == 2;
        if early && message.sequence % 2 == 1 {
            waiting.push_back(message.clone());
            return Reply::ready(Ok(()));
        }
        let sent = now(bus(model).publish(message));
        if message.publisher == 2 {
            for late in waiting.drain(..) {
                drop(now(bus(model).publish(&late)));
            }
        }
        Reply::ready(sent)
    }
}

/// Keeps every message for those who do not listen, and waits for them when there is no more room.
#[derive(Debug, Default)]
pub(crate) struct WaitsForSubscribers(Mutex<Vec<mpsc::Sender<Message>>>);

impl Flaw for WaitsForSubscribers {
    fn publish<'a>(&'a self, model: &'a Model, message: &'a Message) -> Reply<'a, ()> {
        Reply::later(async move {
            now(bus(model).publish(message))?;
            let all = (self.0.lock().unwrap_or_else(PoisonError::into_inner)).clone();
            for subscriber in all {
                // An error says that it is gone.
                let _ = subscriber.send(message.clone()).await;
            }
            Ok(())
        })
    }

    fn subscribe<'a>(&'a self, model: &'a Model) -> Reply<'a, Deliveries> {
        let mut closed = match now(bus(model).subscribe()) {
            Ok(deliveries) => deliveries,
            Err(error) => return Reply::ready(Err(error)),
        };
        let (sender, mut queue) = mpsc::channel(500);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(sender);
        let heard = stream::poll_fn(move |cx| {
            if let std::task::Poll::Ready(found) = queue.poll_recv(cx) {
                return std::task::Poll::Ready(found.map(Delivery::Message));
            }
            while let std::task::Poll::Ready(found) = closed.poll_next_unpin(cx) {
                if found.is_none() {
                    return std::task::Poll::Ready(None);
                }
            }
            std::task::Poll::Pending
        });
        Reply::ready(Ok(Box::pin(heard)))
    }
}

/// Goes on waiting for a store that is closed.
#[derive(Debug, Default)]
pub(crate) struct NoEnd;

impl Flaw for NoEnd {
    fn subscribe<'a>(&'a self, model: &'a Model) -> Reply<'a, Deliveries> {
        Reply::ready(now(bus(model).subscribe()).map(|deliveries| {
            let deliveries = deliveries.chain(stream::pending());
            Box::pin(deliveries) as Deliveries
        }))
    }
}

/// Says after each message that others may be missing, to be safe.
#[derive(Debug, Default)]
pub(crate) struct AlwaysLost;

impl Flaw for AlwaysLost {
    fn subscribe<'a>(&'a self, model: &'a Model) -> Reply<'a, Deliveries> {
        Reply::ready(now(bus(model).subscribe()).map(|deliveries| {
            let each = deliveries.map(|it| stream::iter([it, Delivery::Lost]));
            Box::pin(each.flatten()) as Deliveries
        }))
    }
}

/// Sends into the void.
#[derive(Debug, Default)]
pub(crate) struct PublishAfterClose;

impl Flaw for PublishAfterClose {
    fn publish<'a>(&'a self, model: &'a Model, message: &'a Message) -> Reply<'a, ()> {
        match now(bus(model).publish(message)) {
            Err(error) if error.is_closed() => Reply::ready(Ok(())),
            published => Reply::ready(published),
        }
    }
}
