//! Settings: where the server is, under what names, and how long things stay.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use larder_store::{Error, Result, Timestamp};

use crate::{Redis, link, names::Names};

pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Settings of a [`Redis`] store; [`Redis::builder`] makes one.
///
/// All who share a server and a [`prefix`](Self::prefix) share one store. The settings are each
/// one's own; that they differ does no harm.
#[must_use]
pub struct Builder {
    urls: Vec<String>,
    cluster: bool,
    prefix: String,
    chunk_size: u32,
    object_max: Option<u64>,
    read_ahead: usize,
    grace: Duration,
    staging_ttl: Duration,
    fence_ttl: Duration,
    connections: usize,
    connect_timeout: Duration,
    response_timeout: Duration,
    clock: Clock,
    seed: Option<u64>,
}

/// The settings in force, but for the connections' own.
pub(crate) struct Settings {
    pub(crate) chunk_size: u32,
    pub(crate) object_max: u64,
    pub(crate) read_ahead: usize,
    pub(crate) grace: Duration,
    pub(crate) staging_ttl: Duration,
    pub(crate) fence_ttl: Duration,
    pub(crate) clock: Clock,
}

/// The most chunks of one object. A commit looks at each, in one step of the server.
pub(crate) const CHUNKS_MAX: u32 = 1 << 16;
/// The shortest and the longest chunk.
const CHUNK_MIN: u32 = 4 << 10;
pub(crate) const CHUNK_MAX: u32 = 16 << 20;
/// No time that is given to the server is longer: a year.
const TTL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

impl Builder {
    pub(crate) fn new(urls: Vec<String>, cluster: bool) -> Self {
        Self {
            urls,
            cluster,
            prefix: "larder".to_owned(),
            chunk_size: 1 << 20,
            object_max: None,
            read_ahead: 2,
            grace: Duration::from_secs(60),
            staging_ttl: Duration::from_secs(120),
            fence_ttl: Duration::from_secs(600),
            connections: 2,
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_secs(1),
            clock: wall(),
            seed: None,
        }
    }

    /// What all names in the server begin with. Stores with different prefixes share nothing.
    ///
    /// 1 to 64 bytes, without control characters and without any of `{}*?[]^\`. Default: `larder`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The length of a chunk in bytes. A body that is not longer is kept with its metadata, and
    /// read and written whole in one round trip.
    ///
    /// A reader holds [`read_ahead`](Self::read_ahead) chunks and a writer up to three. 4 KiB to
    /// 16 MiB; default: 1 MiB.
    pub fn chunk_size(mut self, bytes: u32) -> Self {
        self.chunk_size = bytes;
        self
    }

    /// The longest body of an object in bytes; what is longer is refused as `TooLarge`. At most
    /// 65,536 chunks. Default: 4 GiB, or that many chunks where it is less.
    pub fn object_max(mut self, bytes: u64) -> Self {
        self.object_max = Some(bytes);
        self
    }

    /// How many chunks of a body are asked for ahead of its reader. 1 to 16; default: 2.
    pub fn read_ahead(mut self, chunks: usize) -> Self {
        self.read_ahead = chunks;
        self
    }

    /// How long a body that is open can be read on after its object was replaced, deleted or has
    /// expired; from then on it ends in an error. Bodies of one chunk have no such limit.
    ///
    /// For so long the server keeps the chunks of what is gone. 1 second to a year; default:
    /// 1 minute.
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// How long the server keeps the chunks of a writer of which it hears nothing: what a process
    /// leaves behind that dies while it writes. A writer that is not written to for two thirds of
    /// it may find that its commit fails.
    ///
    /// 1 second to a year; default: 2 minutes.
    pub fn staging_ttl(mut self, time: Duration) -> Self {
        self.staging_ttl = time;
        self
    }

    /// How long a fence holds of which the server hears nothing; a writer that is being written to
    /// keeps its fence alive.
    ///
    /// 1 second to a year; default: 10 minutes.
    pub fn fence_ttl(mut self, time: Duration) -> Self {
        self.fence_ttl = time;
        self
    }

    /// How many connections commands are spread over, by key. In a cluster it is one to each node,
    /// whatever is said here. 1 to 64; default: 2.
    pub fn connections(mut self, count: usize) -> Self {
        self.connections = count;
        self
    }

    /// How long it may take to connect. 1 millisecond to a year; default: 1 second.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.connect_timeout = time;
        self
    }

    /// How long the server may take to answer, a whole chunk included; then the operation fails as
    /// `Timeout`. 1 millisecond to a year; default: 1 second.
    pub fn response_timeout(mut self, time: Duration) -> Self {
        self.response_timeout = time;
        self
    }

    /// The clock by which objects expire
    /// ([`Header::expires_at`](larder_store::Header::expires_at)). Default: that of the system.
    ///
    /// The server is only told how much time is left. The clock is called with no lock held, and
    /// must not block.
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Makes what is drawn at random follow from this number, for tests. Two stores with one seed
    /// draw the same names for what they write: on one server and prefix they must not both write.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Connects to the server.
    ///
    /// Errors: `Invalid` for settings or a URL that make no sense; `Unavailable` or `Timeout` when
    /// the server cannot be reached.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with time and network.
    pub async fn connect(self) -> Result<Redis> {
        let (settings, names) = (self.settings()?, Names::new(&self.prefix)?);
        let link = link::Link::connect(self.link()?).await?;
        Ok(Redis::open(link, names, settings, self.seed))
    }

    fn settings(&self) -> Result<Settings> {
        let chunk_size = self.chunk_size;
        within("chunk_size", chunk_size.into(), CHUNK_MIN, CHUNK_MAX)?;
        let object_most = u64::from(chunk_size) * u64::from(CHUNKS_MAX);
        let object_max = self.object_max.unwrap_or(object_most.min(4 << 30));
        within("object_max", object_max, 1_u64, object_most)?;
        within("read_ahead", self.read_ahead as u64, 1_u64, 16_u64)?;
        for (name, time) in [
            ("grace", self.grace),
            ("staging_ttl", self.staging_ttl),
            ("fence_ttl", self.fence_ttl),
        ] {
            lasts(name, time, Duration::from_secs(1))?;
        }
        Ok(Settings {
            chunk_size,
            object_max,
            read_ahead: self.read_ahead,
            grace: self.grace,
            staging_ttl: self.staging_ttl,
            fence_ttl: self.fence_ttl,
            clock: Arc::clone(&self.clock),
        })
    }

    #[allow(clippy::disallowed_methods)] // Spreads attempts to reconnect; nothing else hangs on it.
    fn link(&self) -> Result<link::Settings> {
        within("connections", self.connections as u64, 1_u64, 64_u64)?;
        lasts("connect_timeout", self.connect_timeout, MILLISECOND)?;
        lasts("response_timeout", self.response_timeout, MILLISECOND)?;
        Ok(link::Settings {
            urls: self.urls.clone(),
            cluster: self.cluster,
            connections: self.connections,
            connect_timeout: self.connect_timeout,
            response_timeout: self.response_timeout,
            seed: (self.seed).unwrap_or_else(|| RandomState::new().hash_one("backoff")),
        })
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);

fn within(name: &str, value: u64, least: impl Into<u64>, most: impl Into<u64>) -> Result<()> {
    let (least, most) = (least.into(), most.into());
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name} is {value}, which is not between {least} and {most}"
    )))
}

fn lasts(name: &str, time: Duration, least: Duration) -> Result<()> {
    if (least..=TTL_MAX).contains(&time) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name} is {time:?}, which is not between {least:?} and a year"
    )))
}

#[allow(clippy::disallowed_methods)] // The one place that asks the system.
fn wall() -> Clock {
    Arc::new(Timestamp::now)
}

/// Without the URLs: there may be a password in them.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("cluster", &self.cluster)
            .field("prefix", &self.prefix)
            .field("chunk_size", &self.chunk_size)
            .field("object_max", &self.object_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> Builder {
        Builder::new(vec!["redis://:secret@127.0.0.1/".to_owned()], false)
    }

    #[test]
    fn defaults_are_as_documented() {
        let settings = builder().settings().unwrap();
        assert_eq!(builder().prefix, "larder");
        assert_eq!(
            (settings.chunk_size, settings.object_max),
            (1 << 20, 4 << 30)
        );
        assert_eq!(settings.read_ahead, 2);
        assert_eq!(settings.grace, Duration::from_secs(60));
        assert_eq!(settings.staging_ttl, Duration::from_secs(120));
        assert_eq!(settings.fence_ttl, Duration::from_secs(600));
        let link = builder().link().unwrap();
        assert_eq!(link.connections, 2);
        assert_eq!(link.connect_timeout, Duration::from_secs(1));
        assert_eq!(link.response_timeout, Duration::from_secs(1));
        let small = builder().chunk_size(4 << 10).settings().unwrap();
        assert_eq!(small.object_max, 256 << 20);
    }

    #[test]
    fn senseless_settings_are_invalid() {
        let refused = |change: fn(Builder) -> Builder| {
            let builder = change(builder());
            let (settings, link) = (builder.settings().err(), builder.link().err());
            settings.or(link).is_some_and(|error| error.is_invalid())
        };
        assert!(!refused(|builder| builder));
        assert!(refused(|builder| builder.chunk_size(4095)));
        assert!(refused(|builder| builder.chunk_size(u32::MAX)));
        assert!(refused(|builder| builder.object_max(0)));
        assert!(refused(|builder| builder
            .chunk_size(4096)
            .object_max((256 << 20) + 1)));
        assert!(refused(|builder| builder.read_ahead(0)));
        assert!(refused(|builder| builder.read_ahead(17)));
        assert!(refused(|builder| builder.grace(Duration::ZERO)));
        assert!(refused(|builder| builder.staging_ttl(Duration::MAX)));
        assert!(refused(
            |builder| builder.fence_ttl(Duration::from_millis(999))
        ));
        assert!(refused(|builder| builder.connections(0)));
        assert!(refused(|builder| builder.connect_timeout(Duration::ZERO)));
        assert!(refused(|builder| builder.response_timeout(Duration::ZERO)));
    }

    #[test]
    fn a_password_is_not_told() {
        assert!(!format!("{:?}", builder()).contains("secret"));
    }
}
