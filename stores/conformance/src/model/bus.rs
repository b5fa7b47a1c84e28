//! The model's bus.

use futures_util::{StreamExt, stream};
use larder_store::{Bus, Deliveries, Delivery, Message, Reply};
use tokio::sync::broadcast::{self, error::RecvError};

use super::Model;

/// How many messages wait for a subscriber at most. One that has not heard more hears the newest.
const QUEUE_MAX: usize = 1024;

impl Bus for Model {
    fn publish<'a>(&'a self, message: &'a Message) -> Reply<'a, ()> {
        self.reply(move || {
            if let Some(bus) = &self.state()?.bus {
                // An error says that nobody listens.
                let _ = bus.send(message.clone());
            }
            Ok(())
        })
    }

    fn subscribe(&self) -> Reply<'_, Deliveries> {
        self.reply(move || {
            let mut state = self.state()?;
            let bus = (state.bus).get_or_insert_with(|| broadcast::channel(QUEUE_MAX).0);
            let heard = stream::unfold(bus.subscribe(), async |mut queue| {
                let delivery = match queue.recv().await {
                    Ok(message) => Delivery::Message(message),
                    Err(RecvError::Lagged(_)) => Delivery::Lost,
                    Err(RecvError::Closed) => return None,
                };
                Some((delivery, queue))
            });
            Ok(Box::pin(heard.fuse()) as Deliveries)
        })
    }
}
