//! Buses that lose, repeat, mix up and delay what they carry.

use std::collections::VecDeque;

use futures_util::{
    StreamExt,
    stream::{self, Fuse},
};
use larder_store::{Deliveries, Delivery};

use super::faults::{Fault, Faults, Op};

/// What a subscriber hears, struck.
pub(super) fn faulty_deliveries(faults: Faults, inner: Deliveries) -> Deliveries {
    let carrier = Carrier {
        faults,
        inner: inner.fuse(),
        ready: VecDeque::new(),
        held: Vec::new(),
    };
    let heard = stream::unfold(carrier, async |mut carrier| {
        let delivery = carrier.next().await?;
        Some((delivery, carrier))
    });
    Box::pin(heard.fuse())
}

struct Carrier {
    faults: Faults,
    /// Asked again after its end, for what is held.
    inner: Fuse<Deliveries>,
    /// What is to be heard next.
    ready: VecDeque<Delivery>,
    /// What is to be heard after so many others.
    held: Vec<(u64, Delivery)>,
}

impl Carrier {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            if let Some(delivery) = self.ready.pop_front() {
                return Some(delivery);
            }
            // Of an endless run of deliveries that are all skipped, others have their turn.
            tokio::task::coop::consume_budget().await;
            let Some(delivery) = self.inner.next().await else {
                // Late is better than never.
                return (!self.held.is_empty()).then(|| self.held.remove(0).1);
            };
            let Some(strike) = self.faults.strike(Op::Deliver, "") else {
                self.let_through(delivery);
                continue;
            };
            match strike.fault {
                Fault::Skip => {}
                Fault::Behind(count) => self.held.push((count, delivery)),
                Fault::Lose => self.let_through(Delivery::Lost),
                Fault::Repeat => {
                    self.let_through(delivery.clone());
                    self.let_through(delivery);
                }
                _ => {
                    let waited = strike.before().await;
                    waited.expect("no delivery can fail: it is not allowed to be injected");
                    self.let_through(delivery);
                }
            }
        }
    }

    /// A delivery is to be heard now, and then what was held until then.
    fn let_through(&mut self, delivery: Delivery) {
        self.ready.push_back(delivery);
        for (count, _) in &mut self.held {
            *count = count.saturating_sub(1);
        }
        let due = self.held.extract_if(.., |(count, _)| *count == 0);
        self.ready.extend(due.map(|(_, delivery)| delivery));
    }
}
