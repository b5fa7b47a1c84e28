//! A connection that is restored when it breaks.
//!
//! 1. One task, the keeper, dials; nobody else does.
//! 2. The first attempt after a loss is made at once, and callers wait for it, within their
//!    time-outs. From its failure on they fail at once, while the keeper goes on trying with
//!    growing pauses.
//! 3. A connection that did not live longer than the longest pause does not shorten the pauses:
//!    a server that accepts and hangs up is not stormed.

use std::sync::Arc;

use larder_store::{Error, ErrorKind, Result};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle},
};

use super::{
    Settings,
    backoff::{Backoff, PAUSE_MAX},
    dialer::{Dialer, Identity},
    live::Live,
};

pub(super) struct Connection {
    state: watch::Sender<State>,
    keeper: AbortHandle,
}

enum State {
    /// With why the last attempt failed, if there was one since the loss.
    Dialing(Option<Error>),
    Up(Arc<Live>),
    Closed,
}

impl Connection {
    /// Returns once the connection stands, or why it does not.
    pub(super) async fn open(dialer: Dialer, settings: &Settings, index: usize) -> Result<Self> {
        let (live, identity) = dialer.open(None).await?;
        Ok(Self::start(dialer, settings, index, Some((live, identity))))
    }

    /// Dials in the background.
    #[cfg(feature = "cluster")]
    pub(super) fn lazy(dialer: Dialer, settings: &Settings, index: usize) -> Self {
        Self::start(dialer, settings, index, None)
    }

    fn start(
        dialer: Dialer,
        settings: &Settings,
        index: usize,
        opened: Option<(Live, Option<Identity>)>,
    ) -> Self {
        let seed = settings.seed ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (live, identity) = match opened {
            Some((live, identity)) => (Some(Arc::new(live)), identity),
            None => (None, None),
        };
        let state = watch::Sender::new(match &live {
            Some(live) => State::Up(live.clone()),
            None => State::Dialing(None),
        });
        let keeper = Keeper {
            dialer,
            patience: settings.response_timeout,
            backoff: Backoff::new(seed),
            state: state.clone(),
            identity,
        };
        let task: JoinHandle<()> = tokio::spawn(keeper.keep(live));
        Self {
            state,
            keeper: task.abort_handle(),
        }
    }

    /// The connection as it stands, perhaps after the first attempt to restore it.
    pub(super) async fn live(&self) -> Result<Arc<Live>> {
        if let Some(known) = self.state.borrow().known() {
            return known;
        }
        let mut state = self.state.subscribe();
        match state.wait_for(|state| state.known().is_some()).await {
            Ok(state) => state.known().unwrap_or_else(|| Err(closed())),
            Err(_) => Err(closed()),
        }
    }

    /// No further requests. Those under way end on their own.
    pub(super) fn close(&self) {
        self.keeper.abort();
        if let State::Up(live) = self.state.send_replace(State::Closed) {
            live.retire();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    /// `None`: it is worth waiting.
    fn known(&self) -> Option<Result<Arc<Live>>> {
        match self {
            Self::Up(live) if !live.is_lost() => Some(Ok(live.clone())),
            Self::Up(_) | Self::Dialing(None) => None,
            Self::Dialing(Some(error)) => Some(Err(error.clone())),
            Self::Closed => Some(Err(closed())),
        }
    }
}

fn closed() -> Error {
    Error::closed("the redis store")
}

/// What the keeper's task works with.
struct Keeper {
    dialer: Dialer,
    patience: std::time::Duration,
    backoff: Backoff,
    state: watch::Sender<State>,
    /// Of the last connection.
    identity: Option<Identity>,
}

impl Keeper {
    async fn keep(mut self, mut live: Option<Arc<Live>>) {
        loop {
            if let Some(live) = live.take() {
                live.watch(self.patience).await;
                self.lose(&live);
            }
            let restored = Arc::new(self.restore().await);
            self.tell(State::Up(restored.clone()));
            live = Some(restored);
        }
    }

    fn lose(&mut self, live: &Live) {
        let place = self.dialer.place();
        tracing::debug!(%place, "the redis connection is lost");
        if live.age() > PAUSE_MAX {
            self.backoff.reset();
        }
        let error = (!self.backoff.is_reset()).then(|| {
            let message = format!("the connection to redis at {place} does not last");
            Error::new(ErrorKind::Unavailable, message)
        });
        self.tell(State::Dialing(error));
        live.retire();
    }

    /// Dials until it succeeds.
    async fn restore(&mut self) -> Live {
        loop {
            tokio::time::sleep(self.backoff.wait()).await;
            match self.dialer.open(self.identity.as_ref()).await {
                Ok((live, identity)) => {
                    self.identity = identity;
                    return live;
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot reconnect");
                    // The failure may be temporary, even an authentication error.
                    let error = if error.is_unavailable() {
                        error
                    } else {
                        let message = "the redis connection is lost";
                        Error::with_source(ErrorKind::Unavailable, message, error)
                    };
                    self.tell(State::Dialing(Some(error)));
                }
            }
        }
    }

    /// A closed connection stays closed.
    fn tell(&self, news: State) {
        self.state.send_if_modified(|state| {
            let open = !matches!(state, State::Closed);
            if open {
                *state = news;
            }
            open
        });
    }
}
