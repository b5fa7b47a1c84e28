//! Another process: this binary again, running one of its tests.

use std::process::{Command, Stdio};

/// The variable that tells a test that it is such a process, and what it needs to know.
pub(crate) const CHILD: &str = "LARDER_DISK_CHILD";

/// The command that runs this test, which is one that is ignored otherwise.
pub(crate) fn child(test: &str, what: &str) -> Command {
    let binary = std::env::current_exe().expect("a test is a file");
    let mut command = Command::new(binary);
    command
        .args([
            "--exact",
            test,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, what)
        .stdin(Stdio::null());
    command
}
