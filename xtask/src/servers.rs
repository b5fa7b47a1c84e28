//! The servers that the tests start by themselves.

use std::{env, process::Command};

use crate::workspace::Workspace;

/// Which program the tests start in place of `redis-server`.
const VARIABLE: &str = "LARDER_REDIS_SERVER";

/// Installs Debian's server as root, and keeps its service from being started: the tests start
/// servers of their own. A policy that is there already is somebody else's and stays; what it
/// lets start is stopped.
const INSTALL: &str = "\
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\\nexit 101\\n' > $policy && chmod 755 $policy || exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install -y --no-install-recommends redis-server || exit 1
if pidof redis-server > /dev/null; then service redis-server stop; fi
";

/// Makes sure that there is a Redis server to start: what the user names, or the one on the path,
/// or else Debian's, which is installed.
pub(crate) fn ensure_redis() -> Result<(), String> {
    let named = env::var(VARIABLE).ok().filter(|name| !name.is_empty());
    if let Some(program) = named {
        return if starts(&program) {
            Ok(())
        } else {
            Err(format!("{VARIABLE} names `{program}`, which does not run"))
        };
    }
    if starts("redis-server") || (install() && starts("redis-server")) {
        return Ok(());
    }
    Err(format!(
        "there is no `redis-server`, and it could not be installed with apt-get by root or \
         `sudo -n`; install Redis, or name a server in {VARIABLE}"
    ))
}

/// The Redis store's tests with Valkey, where it is installed.
pub(crate) fn valkey(workspace: &Workspace) -> Result<(), String> {
    if !starts("valkey-server") {
        println!("skipped: there is no `valkey-server` on the path");
        return Ok(());
    }
    let words = if workspace.cargo("nextest --version").succeeds() {
        "nextest run -p larder-servers -p larder-redis --all-features"
    } else {
        "test -p larder-servers -p larder-redis --all-features --tests"
    };
    workspace.cargo(words).env(VARIABLE, "valkey-server").run()
}

fn starts(program: &str) -> bool {
    let version = Command::new(program).arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

fn install() -> bool {
    println!("there is no `redis-server`: Debian's is installed");
    let roots: [&[&str]; 2] = [&["sh"], &["sudo", "-n", "sh"]];
    roots.iter().any(|words| {
        Command::new(words[0])
            .args(&words[1..])
            .args(["-c", INSTALL])
            .status()
            .is_ok_and(|status| status.success())
    })
}
