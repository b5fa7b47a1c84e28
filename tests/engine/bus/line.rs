//! A store with a bus on which anything can go wrong.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use larder::{ByteRange, Draft, Error, ErrorKind, Key, Memory, Metadata, Store, Usage};
use larder_store::{
    Bus, Commit, Deliveries, Delivery, Fence, Identity, List, Lookup, Message, Notice, Reply,
    Touch, Writer,
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

/// What becomes of a message on its way to one subscriber.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Fate {
    #[default]
    Heard,
    Dropped,
    Twice,
    /// It comes this much later, behind others.
    Late(Duration),
}

/// What becomes of an attempt to publish or subscribe.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Way {
    #[default]
    Open,
    Refused,
    /// It takes what it is given, and does not answer.
    Mute,
    /// It waits until the way is another.
    Stuck,
}

type Rule = Box<dyn Fn(usize, &Message) -> Fate + Send>;

/// A memory store that several caches share, and their bus. Clones are the same; a close of one
/// is not the end of the others.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) store: Memory,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ears: Mutex<Vec<mpsc::UnboundedSender<Delivery>>>,
    rule: Mutex<Option<Rule>>,
    publish: watch::Sender<Way>,
    subscribe: watch::Sender<Way>,
    heard: Mutex<Vec<Message>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Line {
    pub(super) fn new(store: Memory) -> Self {
        Self {
            store,
            shared: Arc::default(),
        }
    }

    /// Decides from now on what becomes of each message for each subscriber, numbered from 0.
    pub(super) fn rule(&self, rule: impl Fn(usize, &Message) -> Fate + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Some(Box::new(rule));
    }

    pub(super) fn publishing(&self, way: Way) {
        self.shared.publish.send_replace(way);
    }

    pub(super) fn subscribing(&self, way: Way) {
        self.shared.subscribe.send_replace(way);
    }

    /// Tells every subscriber that messages were lost.
    pub(super) fn lose(&self) {
        for ear in &*self.shared.ears.lock().unwrap() {
            let _ = ear.send(Delivery::Lost);
        }
    }

    /// Ends every subscription.
    pub(super) fn hang_up(&self) {
        self.shared.ears.lock().unwrap().clear();
    }

    /// What was published, but for beats.
    pub(super) fn said(&self) -> Vec<Notice> {
        let messages = self.shared.heard.lock().unwrap();
        let said = messages.iter().map(|message| message.notice.clone());
        said.filter(|notice| *notice != Notice::Beat).collect()
    }

    /// Every message that was published.
    pub(super) fn messages(&self) -> Vec<Message> {
        self.shared.heard.lock().unwrap().clone()
    }

    /// Publishes in another's name.
    pub(super) fn say(&self, message: &Message) {
        self.shared.heard.lock().unwrap().push(message.clone());
        let rule = self.shared.rule.lock().unwrap();
        for (number, ear) in self.shared.ears.lock().unwrap().iter().enumerate() {
            let fate = rule
                .as_ref()
                .map_or(Fate::Heard, |rule| rule(number, message));
            let delivery = Delivery::Message(message.clone());
            let (ear, again) = (ear.clone(), delivery.clone());
            // Who does not listen any more is not asked.
            match fate {
                Fate::Heard => drop(ear.send(delivery)),
                Fate::Dropped => {}
                Fate::Twice => drop(ear.send(delivery).and_then(|()| ear.send(again))),
                Fate::Late(by) => drop(tokio::spawn(async move {
                    sleep(by).await;
                    let _ = ear.send(delivery);
                })),
            }
        }
    }
}

async fn passes(mut way: watch::Receiver<Way>) -> Result<bool, Error> {
    let way = *way.wait_for(|way| *way != Way::Stuck).await.unwrap();
    match way {
        Way::Refused => Err(Error::new(ErrorKind::Unavailable, "the line is down")),
        way => Ok(way == Way::Open),
    }
}

impl Bus for Line {
    fn publish<'a>(&'a self, message: &'a Message) -> Reply<'a, ()> {
        Reply::later(async move {
            let is_answered = passes(self.shared.publish.subscribe()).await?;
            self.say(message);
            if !is_answered {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    }

    fn subscribe(&self) -> Reply<'_, Deliveries> {
        Reply::later(async move {
            let hears = passes(self.shared.subscribe.subscribe()).await?;
            let (sender, mut receiver) = mpsc::unbounded_channel();
            if !hears {
                // A subscription that nothing comes through.
                return Ok(futures_util::stream::pending().boxed());
            }
            self.shared.ears.lock().unwrap().push(sender);
            let next = move |cx: &mut std::task::Context<'_>| receiver.poll_recv(cx);
            Ok(futures_util::stream::poll_fn(next).boxed())
        })
    }
}

impl Store for Line {
    fn get_stream<'a>(&'a self, key: Key<'a>, range: ByteRange) -> Reply<'a, Lookup> {
        self.store.get_stream(key, range)
    }

    fn set_with_writer<'a>(&'a self, key: Key<'a>, draft: Draft) -> Reply<'a, Box<dyn Writer>> {
        self.store.set_with_writer(key, draft)
    }

    fn delete<'a>(&'a self, key: Key<'a>, fence: Option<Fence>) -> Reply<'a, Commit> {
        self.store.delete(key, fence)
    }

    fn stat<'a>(&'a self, key: Key<'a>) -> Reply<'a, Option<Arc<Metadata>>> {
        self.store.stat(key)
    }

    fn fence<'a>(&'a self, key: Key<'a>) -> Reply<'a, Fence> {
        self.store.fence(key)
    }

    fn kind(&self) -> &'static str {
        "line"
    }

    fn object_max(&self) -> Option<u64> {
        self.store.object_max()
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }

    fn close(&self) -> Reply<'_, ()> {
        Reply::ready(Ok(()))
    }

    fn identity(&self) -> Identity {
        Identity::of(&*self.shared)
    }

    fn as_touch(&self) -> Option<&dyn Touch> {
        self.store.as_touch()
    }

    fn as_list(&self) -> Option<&dyn List> {
        self.store.as_list()
    }

    fn as_bus(&self) -> Option<&dyn Bus> {
        Some(self)
    }
}
