//! A member of the fleet, as the test has it: a child process that ends with its value.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::{sync::oneshot, time::timeout};

use crate::{PATIENCE, settings::Settings};

/// The variable with a member's settings.
pub(crate) const MEMBER: &str = "LARDER_FLEET_MEMBER";

pub(crate) struct Process {
    child: Child,
    input: Mutex<ChildStdin>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Commands that were not answered yet; closed when the process has ended.
#[derive(Default)]
struct Waiting {
    last: u64,
    answers: Option<HashMap<u64, oneshot::Sender<String>>>,
}

/// What a read gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) version: u64,
    /// The tier's name, or `origin`.
    pub(crate) source: String,
}

impl Process {
    /// Starts one and waits until it is connected.
    pub(crate) async fn start(settings: &Settings) -> Self {
        let binary = env::current_exe().expect("a test is a file");
        let mut child = Command::new(binary)
            .args(["--exact", "member", "--ignored"])
            .args(["--nocapture", "--test-threads=1"])
            .env(MEMBER, settings.told())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (ready, started) = oneshot::channel();
        let waiting = Arc::new(Mutex::new(Waiting {
            last: 0,
            answers: Some(HashMap::from([(0, ready)])),
        }));
        let output = child.stdout.take().unwrap();
        let input = Mutex::new(child.stdin.take().unwrap());
        let answered = Arc::clone(&waiting);
        thread::spawn(move || hear(output, &answered));
        let process = Self {
            child,
            input,
            waiting,
        };
        let started = timeout(PATIENCE, started).await;
        started.expect("it starts in time").expect("it starts");
        process
    }

    pub(crate) async fn start_all(settings: impl IntoIterator<Item = Settings>) -> Vec<Self> {
        let starting = settings
            .into_iter()
            .map(async |one| Self::start(&one).await);
        join_all(starting).await
    }

    /// Reads a page, from the origin where no tier has it. That never fails.
    pub(crate) async fn read(&self, key: &str) -> Seen {
        let answer = self.ask(&format!("read {key}")).await;
        let answer = answer.unwrap_or_else(|why| panic!("{key} cannot be read: {why}"));
        Seen::parse(&answer).expect("the origin has every page")
    }

    /// Reads a page from the tiers.
    pub(crate) async fn look(&self, key: &str) -> Option<Seen> {
        let answer = self.ask(&format!("look {key}")).await;
        Seen::parse(&answer.unwrap_or_else(|why| panic!("looking for {key}: {why}")))
    }

    pub(crate) async fn delete(&self, key: &str) {
        self.ask(&format!("delete {key}")).await.unwrap();
    }

    /// Waits until nothing is under way in its cache.
    pub(crate) async fn settle(&self) {
        self.ask("settle").await.unwrap();
    }

    /// Tells it to do something, and gives what it says to it.
    pub(crate) async fn ask(&self, command: &str) -> Result<String, String> {
        self.ask_within(PATIENCE, command).await
    }

    pub(crate) async fn ask_within(
        &self,
        patience: Duration,
        command: &str,
    ) -> Result<String, String> {
        let (answer, answered) = oneshot::channel();
        let number = {
            let mut waiting = lock(&self.waiting);
            waiting.last += 1;
            let number = waiting.last;
            let answers = waiting.answers.as_mut();
            let answers = answers.unwrap_or_else(|| panic!("it has ended: {command}"));
            answers.insert(number, answer);
            number
        };
        let line = format!("{number} {command}\n");
        lock(&self.input).write_all(line.as_bytes()).unwrap();
        let answered = timeout(patience, answered).await;
        let answered = answered.unwrap_or_else(|_| panic!("no answer in {patience:?}: {command}"));
        let answer = answered.unwrap_or_else(|_| panic!("it ended meanwhile: {command}"));
        match answer.split_once(' ').unwrap_or((&answer, "")) {
            ("ok", answer) => Ok(answer.to_owned()),
            (_, why) => Err(why.to_owned()),
        }
    }

    /// Stops it where it is, and returns when it stands still.
    pub(crate) fn pause(&self) {
        kill_process(self.id(), Signal::STOP).unwrap();
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.id()), stopped).unwrap();
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        kill_process(self.id(), Signal::CONT).unwrap();
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A stopped process dies as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Hands answers to those who wait for them, until the output ends.
fn hear(output: ChildStdout, waiting: &Mutex<Waiting>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        // The harness writes before the first line, on the same line.
        let Some((_, line)) = line.split_once('@') else {
            continue;
        };
        let (number, answer) = line.split_once(' ').expect("a number and an answer");
        let number = number.parse().expect("a number");
        let answers = &mut lock(waiting).answers;
        if let Some(waiting) = answers.as_mut().and_then(|answers| answers.remove(&number)) {
            // Who has lost patience is gone.
            let _ = waiting.send(answer.to_owned());
        }
    }
    lock(waiting).answers = None;
}

impl Seen {
    fn parse(answer: &str) -> Option<Self> {
        let (version, source) = answer.split_once(' ')?;
        Some(Self {
            version: version.parse().unwrap(),
            source: source.to_owned(),
        })
    }

    pub(crate) fn new(version: u64, source: &str) -> Self {
        Self {
            version,
            source: source.to_owned(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
