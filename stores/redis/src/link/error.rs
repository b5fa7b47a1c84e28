//! What the errors of the client library and of the server mean to a caller.

use std::{fmt, io};

use larder_store::{BoxError, Error, ErrorKind};
use redis::{RedisError, ServerErrorKind};

/// The error as the contract has it; the library's own is its source.
pub(crate) fn error(error: RedisError) -> Error {
    let (kind, message) = classify(&error);
    Error::with_source(kind, message, cause(error))
}

/// The library's error as a source that says everything once. An error of the library that has a
/// source repeats its text.
pub(crate) fn cause(error: RedisError) -> BoxError {
    use std::error::Error as _;

    match error
        .source()
        .map(<dyn std::error::Error>::downcast_ref::<io::Error>)
    {
        None => error.into(),
        Some(Some(inner)) => match inner.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code).into(),
            None => io::Error::new(inner.kind(), inner.to_string()).into(),
        },
        Some(None) => Cause(error).into(),
    }
}

/// An error of the library's without the source that it repeats.
struct Cause(RedisError);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Cause {}

pub(crate) fn classify(error: &RedisError) -> (ErrorKind, &'static str) {
    use redis::ErrorKind as Client;

    // The errors of a pipeline's commands are kept in a list: the first one tells.
    if let Some(first) = error
        .clone()
        .into_server_errors()
        .and_then(|errors| errors.first().map(|(_, error)| error.clone()))
    {
        return said(first.kind(), first.code(), first.details().unwrap_or(""));
    }
    match error.kind() {
        _ if error.is_timeout() => (
            ErrorKind::Timeout,
            "the redis server did not answer in time",
        ),
        Client::Io => (ErrorKind::Unavailable, "the redis connection failed"),
        Client::Parse | Client::UnexpectedReturnType => (
            ErrorKind::Corrupt,
            "the redis server's answer is not of the expected form",
        ),
        Client::AuthenticationFailed => (ErrorKind::Invalid, REFUSED_LOGIN),
        Client::InvalidClientConfig => (ErrorKind::Invalid, "the redis settings do not work"),
        Client::Server(kind) => said(Some(kind), "", error.detail().unwrap_or("")),
        _ => (ErrorKind::Other, "the redis client failed"),
    }
}

const REFUSED_LOGIN: &str = "the redis server refused the user name or the password";
const UNFIT: &str = "the redis server cannot serve now";
const FULL: &str = "the redis server has no memory left";
const FOREIGN: &str = "the redis name holds a value of another type";

/// What an error reply means, by its code, which is its first word.
fn said(kind: Option<ServerErrorKind>, code: &str, details: &str) -> (ErrorKind, &'static str) {
    use ServerErrorKind as Server;

    match (kind, code) {
        (
            Some(
                Server::ReadOnly
                | Server::BusyLoading
                | Server::ClusterDown
                | Server::MasterDown
                | Server::TryAgain
                | Server::Moved
                | Server::Ask,
            ),
            _,
        )
        | (_, "MISCONF" | "NOREPLICAS" | "BUSY") => (ErrorKind::Unavailable, UNFIT),
        (_, "OOM") => (ErrorKind::Full, FULL),
        (_, "WRONGTYPE") => (ErrorKind::Corrupt, FOREIGN),
        (_, "NOAUTH" | "WRONGPASS") => (ErrorKind::Invalid, REFUSED_LOGIN),
        (Some(Server::NoPerm), _) => (
            ErrorKind::Other,
            "the redis server does not permit this user the command",
        ),
        (Some(Server::ResponseError), _) => within(details),
        _ => (ErrorKind::Other, "the redis server refused the command"),
    }
}

/// Servers before 7.0 wrap what failed inside a script into a plain error.
fn within(details: &str) -> (ErrorKind, &'static str) {
    let has = |words: &str| details.contains(words);
    if has("-OOM ") {
        (ErrorKind::Full, FULL)
    } else if has("-READONLY ") || has("-MISCONF ") || has("-NOREPLICAS ") {
        (ErrorKind::Unavailable, UNFIT)
    } else if has("WRONGTYPE ") {
        (ErrorKind::Corrupt, FOREIGN)
    } else if has("max number of clients") {
        (
            ErrorKind::Unavailable,
            "the redis server has too many clients",
        )
    } else {
        (ErrorKind::Other, "the redis server refused the command")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kind of what a server says with this line.
    fn kind(line: &str) -> ErrorKind {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        error(value.extract_error().unwrap_err()).kind()
    }

    #[test]
    fn what_a_server_says_maps_to_what_a_caller_can_do() {
        for line in [
            "READONLY You can't write against a read only replica.",
            "LOADING Redis is loading the dataset in memory",
            "CLUSTERDOWN The cluster is down",
            "MASTERDOWN Link with MASTER is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "MISCONF Redis is configured to save RDB snapshots",
            "NOREPLICAS Not enough good replicas to write.",
            "BUSY Redis is busy running a script.",
            "ERR max number of clients reached",
            "ERR Error running script (call to f_0): @user_script:1: -READONLY You can't write",
        ] {
            assert_eq!(kind(line), ErrorKind::Unavailable, "{line}");
        }
        for line in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "ERR Error running script (call to f_0): @user_script:1: -OOM command not allowed",
        ] {
            assert_eq!(kind(line), ErrorKind::Full, "{line}");
        }
        let wrong_type = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(kind(wrong_type), ErrorKind::Corrupt);
        assert_eq!(
            kind("WRONGPASS invalid username-password pair"),
            ErrorKind::Invalid
        );
        assert_eq!(kind("NOAUTH Authentication required."), ErrorKind::Invalid);
        assert_eq!(
            kind("NOPERM this user has no permissions"),
            ErrorKind::Other
        );
        assert_eq!(kind("ERR unknown command 'FOO'"), ErrorKind::Other);
    }

    /// The messages down the chain of sources.
    fn messages(error: &dyn std::error::Error) -> Vec<String> {
        let mut messages = vec![error.to_string()];
        let mut next = error.source();
        while let Some(error) = next {
            messages.push(error.to_string());
            next = error.source();
        }
        messages
    }

    #[test]
    fn s104_an_error_says_everything_once() {
        let refused = || RedisError::from(io::Error::from_raw_os_error(111));
        let line = b"-WRONGPASS invalid username-password pair\r\n";
        let server = || {
            redis::parse_redis_value(line)
                .unwrap()
                .extract_error()
                .unwrap_err()
        };
        for failed in [refused(), server(), io::Error::other("made up").into()] {
            let error = error(failed);
            let messages = messages(&error);
            assert_eq!(messages.len(), 2, "{messages:?}");
            assert!(!messages[0].contains(&messages[1]), "{messages:?}");
        }
    }

    #[test]
    fn what_befalls_the_connection_maps_too() {
        let io = |kind| error(RedisError::from(std::io::Error::from(kind))).kind();
        assert_eq!(
            io(std::io::ErrorKind::ConnectionReset),
            ErrorKind::Unavailable
        );
        assert_eq!(
            io(std::io::ErrorKind::ConnectionRefused),
            ErrorKind::Unavailable
        );
        assert_eq!(io(std::io::ErrorKind::TimedOut), ErrorKind::Timeout);
    }
}
