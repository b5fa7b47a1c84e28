//! One run of a server: a child process that ends with its value.

use std::{
    io,
    process::{Child, Command, Stdio},
    sync::mpsc::RecvTimeoutError,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::{PATIENCE, log::Log};

/// A running server. It is known by its process id alone, which stays its own until it was waited
/// for; that happens in [`Drop`] only.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: Log,
}

/// Why a server did not start.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Somebody else has one of its ports.
    PortTaken,
    /// Anything else, in the server's words.
    Other(String),
}

impl Process {
    /// Starts a server and waits until it says that it is ready.
    pub(crate) fn start(mut command: Command) -> Result<Self, Refused> {
        let (output, input) = io::pipe().expect("a pipe can be had");
        let second = input.try_clone().expect("a descriptor can be had");
        command.stdin(Stdio::null()).stdout(input).stderr(second);
        let program = command.get_program().to_owned();
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("`{}` cannot start: {error}", program.display()));
        // It holds our ends of the pipe, without which the log would not end.
        drop(command);
        let (log, ready) = Log::read(output);
        let process = Self { child, log };
        match ready.recv_timeout(PATIENCE) {
            Ok(()) => Ok(process),
            Err(RecvTimeoutError::Timeout) => Err(Refused::Other(format!(
                "it is not ready after {PATIENCE:?}:\n{}",
                process.log.text()
            ))),
            Err(RecvTimeoutError::Disconnected) => {
                let text = process.log.text();
                if text.contains("Failed listening") || text.contains("ddress already in use") {
                    Err(Refused::PortTaken)
                } else {
                    Err(Refused::Other(text))
                }
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Stops it where it is, and returns when it stands still.
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.id()), stopped).expect("it is our child");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.id(), signal).expect("it is our child");
    }

    fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A stopped process dies as well. Neither fails for a child that was not waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
