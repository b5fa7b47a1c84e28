//! The task that listens, and watches what is not said.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use larder_store::{Deliveries, Delivery, Error, ErrorKind, Message, Notice, Result};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use super::{Bus, inbox::Inbox, outbox::Outbox, publishers::Publishers};
use crate::{counters::count, engine::Engine};

/// How soon is listened again after a subscription ended: at first, and at most.
const AGAIN_MIN: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(1);

/// Listens, for ever.
pub(super) async fn run(engine: &Arc<Engine>) {
    let Some(bus) = &engine.bus else { return };
    let mut ticks = interval(bus.pace.tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut listener = Listener {
        engine,
        bus,
        publishers: Publishers::default(),
        lacking: None,
        heard: Instant::now(),
        ticks,
    };
    let mut pause = AGAIN_MIN;
    loop {
        listener.heard = Instant::now();
        let subscribed = listener.watching(subscribe(bus)).await;
        match subscribed {
            Some(Ok(deliveries)) => {
                pause = AGAIN_MIN;
                // What was published before was not heard.
                bus.distrust(engine, "listening begins");
                bus.outbox.beat();
                listener.listen(deliveries).await;
            }
            Some(Err(error)) => tracing::debug!(%error, "cannot listen to the bus"),
            None => tracing::debug!("the bus takes too long to listen to"),
        }
        listener.watching_for(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

struct Listener<'a> {
    engine: &'a Arc<Engine>,
    bus: &'a Bus,
    publishers: Publishers,
    /// Since when a message is missing.
    lacking: Option<Instant>,
    /// When something came, or was begun to be waited for.
    heard: Instant,
    ticks: Interval,
}

impl Listener<'_> {
    /// Listens until the subscription ends, or is silent though own beats should come.
    async fn listen(&mut self, mut deliveries: Deliveries) {
        loop {
            let next = AssertUnwindSafe(deliveries.next()).catch_unwind();
            let Some(Ok(Some(delivery))) = self.watching(next).await else {
                return;
            };
            self.heard = Instant::now();
            match delivery {
                Delivery::Lost => {
                    self.publishers.settle();
                    self.bus.distrust(self.engine, "the bus lost messages");
                }
                Delivery::Message(message) => self.hear(message),
            }
            // A bus that always has more must not keep its thread.
            tokio::task::coop::consume_budget().await;
        }
    }

    fn hear(&mut self, message: Message) {
        let (engine, bus) = (self.engine, self.bus);
        if message.publisher == bus.outbox.publisher {
            if message.epoch == Outbox::EPOCH
                && let Some(mark) = bus.outbox.mark(&message)
            {
                self.check_life();
                bus.trust.prove(mark.sent, mark.sent_at);
            }
            return;
        }
        count(&engine.counts.bus_received);
        if self.publishers.hear(&message, self.heard) {
            self.lacking.get_or_insert(self.heard);
        }
        match message.notice {
            Notice::Beat | Notice::Leave => {}
            Notice::Keys(keys) => {
                if !Inbox::push(engine, bus, keys, self.heard) {
                    bus.distrust(engine, "too many keys wait to be deleted");
                }
            }
            // Also what a later version may say.
            _ => {
                bus.distrust(engine, "another process cleared its tiers");
                // What they fetched before is not to be shared after. In no list of keys yet, it
                // ended no fence.
                engine.flights.retire_all();
            }
        }
    }

    /// Waits, and watches meanwhile; `None` when nothing came for too long.
    async fn watching<T>(&mut self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(wait);
        loop {
            tokio::select! {
                result = &mut wait => return Some(result),
                _ = self.ticks.tick() => self.tick(),
            }
            // Own beats should have come: the subscription may hang.
            if self.heard.elapsed() > 2 * self.bus.pace.bound {
                return None;
            }
        }
    }

    async fn watching_for(&mut self, pause: Duration) {
        self.heard = Instant::now();
        self.watching(sleep(pause)).await;
    }

    fn tick(&mut self) {
        let (engine, bus, now) = (self.engine, self.bus, Instant::now());
        self.check_life();
        if self.publishers.silent(now, bus.pace.silence) {
            bus.distrust(engine, "another process fell silent");
        }
        if bus.inbox.is_late(now, bus.pace) {
            bus.distrust(engine, "keys waited too long to be deleted");
        }
        let is_due = |since: &mut Instant| now.duration_since(*since) >= bus.pace.settle;
        if self.lacking.take_if(is_due).is_some() && self.publishers.lack() {
            self.publishers.settle();
            bus.distrust(engine, "a message is missing");
        }
    }

    fn check_life(&self) {
        // It begins a generation where own messages have ceased to come back.
        self.bus.generation(self.engine);
    }
}

async fn subscribe(bus: &Bus) -> Result<Deliveries> {
    let subscribe = async {
        match bus.place.store().as_bus() {
            Some(bus) => bus.subscribe().await,
            None => Err(Error::new(ErrorKind::Unsupported, "the store has no bus")),
        }
    };
    let subscribed = AssertUnwindSafe(subscribe).catch_unwind().await;
    subscribed.unwrap_or_else(|_| Err(Error::new(ErrorKind::Other, "subscribing panicked")))
}
