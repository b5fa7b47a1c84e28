//! A Redis server of the test's own.

use std::{
    env,
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redis::{Client, Connection, FromRedisValue};
use tempfile::TempDir;

use crate::{
    ATTEMPTS, PATIENCE, nap,
    process::{Process, Refused},
};

/// How often other ports are tried. The system hands out free ones; it takes two tests at once for
/// one to be taken in the moment before the server binds it.
const PORTS_MAX: usize = 20;

/// A running server without persistence, with a folder of its own. It ends with this value.
#[derive(Debug)]
pub struct Server {
    settings: Builder,
    ports: Ports,
    dir: TempDir,
    /// None after [`kill`](Self::kill).
    process: Mutex<Option<Process>>,
}

/// What a server is started with.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    config: Vec<(String, String)>,
    cluster: bool,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    clients: u16,
    cluster: Option<u16>,
}

impl Server {
    /// Starts a server with the settings that it has by itself.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Begins with the settings that it has by itself.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.clients).into()
    }

    /// Where it listens, as clients want to be told: `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Its Unix socket, as clients want to be told: `redis+unix:///PATH`.
    pub fn unix_url(&self) -> String {
        format!("redis+unix://{}", self.unix_socket().display())
    }

    /// The path of its Unix socket.
    pub fn unix_socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// The port at which the other nodes of its cluster reach it.
    pub(crate) fn cluster_port(&self) -> Option<u16> {
        self.ports.cluster
    }

    /// Whether it was not killed.
    pub(crate) fn lives(&self) -> bool {
        self.slot().is_some()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.with(Process::pid)
    }

    /// The last lines that it printed.
    pub fn log(&self) -> String {
        self.with(Process::log)
    }

    /// Stops it where it is (SIGSTOP): connections stay, and nothing is answered.
    pub fn pause(&self) {
        self.with(Process::pause);
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.with(Process::resume);
    }

    /// Kills it (SIGKILL), paused or not. What it held is lost.
    pub fn kill(&self) {
        self.slot().take();
    }

    /// Starts it again, at the same ports and in the same folder; kills it first if it runs.
    pub fn restart(&self) {
        let mut slot = self.slot();
        slot.take();
        // Somebody may hold the port for a moment: another test that looks for a free one.
        for _ in 0..ATTEMPTS {
            match self.settings.run(self.ports, &self.dir) {
                Ok(process) => {
                    *slot = Some(process);
                    return;
                }
                Err(Refused::PortTaken) => nap(),
                Err(Refused::Other(why)) => panic!("the server does not start again: {why}"),
            }
        }
        panic!("another process took port {}", self.ports.clients);
    }

    /// A connection past any proxy, to look at what the server holds.
    pub fn connection(&self) -> Connection {
        let connection = Client::open(self.url())
            .and_then(|client| client.get_connection_with_timeout(PATIENCE))
            .expect("the server is there");
        connection
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit can be set");
        connection
    }

    /// Asks one command and gives its answer.
    ///
    /// ```
    /// # let server = larder_servers::Server::start();
    /// server.ask::<()>(&["SET", "a", "1"]);
    /// assert_eq!(server.ask::<u32>(&["DBSIZE"]), 1);
    /// ```
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words)
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// As [`ask`](Self::ask), for a command that may be refused.
    pub fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let (name, args) = words.split_first().expect("a command has a name");
        redis::cmd(name).arg(args).query(&mut self.connection())
    }

    fn slot(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, ask: impl FnOnce(&Process) -> T) -> T {
        // The guard is gone before the panic, so that later calls are told the same.
        self.slot()
            .as_ref()
            .map(ask)
            .expect("the server was not killed")
    }
}

impl Builder {
    /// A line of its configuration: `config("maxmemory", "4mb")`.
    #[must_use]
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.config.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes it a node of a cluster, with a port for the other nodes.
    pub(crate) fn cluster_node(mut self) -> Self {
        self.cluster = true;
        self
    }

    /// Starts the server; it has answered a PING when this returns.
    pub fn start(self) -> Server {
        let dir = TempDir::new().expect("a folder can be made");
        for _ in 0..PORTS_MAX {
            let ports = Ports::free(self.cluster);
            match self.run(ports, &dir) {
                Ok(process) => {
                    let server = Server {
                        settings: self,
                        ports,
                        dir,
                        process: Mutex::new(Some(process)),
                    };
                    assert_eq!(server.ask::<String>(&["PING"]), "PONG");
                    return server;
                }
                Err(Refused::PortTaken) => {}
                Err(Refused::Other(why)) => panic!("the server does not start: {why}"),
            }
        }
        panic!("{PORTS_MAX} free ports were taken before the server could bind them");
    }

    fn run(&self, ports: Ports, dir: &TempDir) -> Result<Process, Refused> {
        let program = env::var_os("LARDER_REDIS_SERVER").filter(|program| !program.is_empty());
        let mut command = Command::new(program.unwrap_or_else(|| OsString::from("redis-server")));
        command
            .args(["--bind", "127.0.0.1", "--port", &ports.clients.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--unixsocket", "socket"])
            .arg("--dir")
            .arg(dir.path());
        if let Some(port) = ports.cluster {
            command.args(["--cluster-enabled", "yes"]);
            command.args(["--cluster-port", &port.to_string()]);
        }
        for (name, value) in &self.config {
            command.arg(format!("--{name}")).arg(value);
        }
        Process::start(command)
    }
}

impl Ports {
    /// Ports that are free now, held together so that they differ.
    fn free(cluster: bool) -> Self {
        let hold = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = |held: &TcpListener| held.local_addr().expect("it is bound").port();
        let clients = hold();
        let other = cluster.then(hold);
        Self {
            clients: port(&clients),
            cluster: other.as_ref().map(port),
        }
    }
}
