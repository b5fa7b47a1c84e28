//! One subscription: its connection, and the task that keeps it.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_util::StreamExt;
use larder_store::{Delivery, Error, Message, Result};
use redis::{
    Value,
    aio::{PubSub, PubSubSink, PubSubStream},
};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::queue::{Arrival, Queue};
use crate::{
    link::{self, Backoff, PAUSE_MAX},
    shared::Shared,
};

/// How long a connection may be silent before the server is asked whether it is there.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How long the server may take to say so, and to take a subscription.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What a subscriber hears. Its task ends with it.
pub(super) struct Subscription {
    queue: Arc<Queue>,
    listening: AbortHandle,
    /// How much came that was no message.
    malformed: u64,
}

impl Subscription {
    /// Returns when the server has taken the subscription.
    pub(super) async fn begin(shared: Arc<Shared>) -> Result<Self> {
        let connection = subscribe(&shared).await?;
        let queue = Arc::new(Queue::default());
        let listening = shared.home.runtime.clone().spawn({
            let queue = queue.clone();
            async move {
                tokio::select! {
                    biased;
                    () = shared.closed() => {}
                    never = listen(&shared, connection, &queue) => match never {},
                }
                queue.end();
            }
        });
        Ok(Self {
            queue,
            listening: listening.abort_handle(),
            malformed: 0,
        })
    }
}

impl Stream for Subscription {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.queue.poll_next(cx).map(|next| {
            let delivery = match next? {
                Arrival::Payload(payload) => self.read(&payload),
                Arrival::Lost => Delivery::Lost,
            };
            Some(delivery)
        })
    }
}

impl Subscription {
    fn read(&mut self, payload: &[u8]) -> Delivery {
        match Message::decode(payload) {
            Ok(message) => Delivery::Message(message),
            Err(error) => {
                self.malformed += 1;
                tracing::warn!(count = self.malformed, %error, "what came on the bus is no message");
                Delivery::Lost
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// A connection that hears the channel.
async fn subscribe(shared: &Shared) -> Result<PubSub> {
    let mut connection = shared.link.pubsub().await?;
    let subscribing = connection.subscribe(shared.names.bus());
    match timeout(ANSWER_MAX, subscribing).await {
        Ok(Ok(())) => Ok(connection),
        Ok(Err(error)) => Err(link::error(error)),
        Err(_) => Err(Error::timeout(
            "redis did not take the subscription in time",
        )),
    }
}

/// Hears, and connects anew whenever that ends.
async fn listen(
    shared: &Shared,
    mut connection: PubSub,
    queue: &Queue,
) -> std::convert::Infallible {
    let mut backoff = Backoff::new(shared.nonces.draw().short());
    loop {
        let start = Instant::now();
        let (sink, stream) = connection.split();
        let heard = AtomicU64::new(0);
        let why = tokio::select! {
            () = take_in(stream, queue, &heard) => "it was closed",
            () = watch(sink, &heard) => "the server is silent",
        };
        tracing::debug!(why, "the subscription to the bus lost its connection");
        queue.lose();
        // A server that takes a subscription and hangs up is not stormed.
        if start.elapsed() > PAUSE_MAX {
            backoff.reset();
        }
        connection = loop {
            sleep(backoff.wait()).await;
            match subscribe(shared).await {
                Ok(connection) => break connection,
                // Whatever it is, also a password that was changed, may pass.
                Err(error) => tracing::debug!(%error, "cannot subscribe to the bus again"),
            }
        };
        // What was published since the first loss is missing as well.
        queue.lose();
    }
}

/// Returns when the connection ends. What `redis-rs` has read and not yet given is unbounded, so
/// this does no more than is needed to bound it.
async fn take_in(stream: PubSubStream, queue: &Queue, heard: &AtomicU64) {
    let mut stream = pin!(stream);
    while let Some(message) = stream.next().await {
        heard.fetch_add(1, Relaxed);
        queue.push(message.get_payload_bytes());
    }
}

/// Returns when the server does not say any more that it is there. A message says so as well.
async fn watch(mut sink: PubSubSink, heard: &AtomicU64) {
    loop {
        let before = heard.load(Relaxed);
        sleep(SILENCE_MAX).await;
        if heard.load(Relaxed) != before {
            continue;
        }
        let answer = timeout(ANSWER_MAX, sink.ping::<Value>()).await;
        let answered = matches!(answer, Ok(Ok(_)));
        if !answered && heard.load(Relaxed) == before {
            return;
        }
    }
}
