//! What a node says instead of running a command.

use redis::{ServerErrorKind, Value};

/// Where, or when, to try again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// To the new owner of the slot, from now on. No host means the one that was asked.
    Moved(String, u16),
    /// To where the name is moving, this time.
    Ask(String, u16),
    /// The cluster is about to change.
    Later,
}

/// `None` for an answer that is final.
pub(super) fn of(answer: &Value) -> Option<Redirect> {
    let Value::ServerError(error) = answer else {
        return None;
    };
    match error.kind()? {
        ServerErrorKind::Moved => place(error.details()?).map(|(h, p)| Redirect::Moved(h, p)),
        ServerErrorKind::Ask => place(error.details()?).map(|(h, p)| Redirect::Ask(h, p)),
        ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown => Some(Redirect::Later),
        _ => None,
    }
}

/// Of "SLOT HOST:PORT"; an IPv6 host has colons of its own.
fn place(details: &str) -> Option<(String, u16)> {
    let (_, place) = details.trim().split_once(' ')?;
    let (host, port) = place.trim().rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Option<Redirect> {
        of(&redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap())
    }

    #[test]
    fn redirections_are_read() {
        let host = || "10.0.0.1".to_owned();
        let moved = said("MOVED 3999 10.0.0.1:6381");
        assert_eq!(moved, Some(Redirect::Moved(host(), 6381)));
        assert_eq!(
            said("ASK 3999 10.0.0.1:6381"),
            Some(Redirect::Ask(host(), 6381))
        );
        let same_host = said("MOVED 3999 :6381");
        assert_eq!(same_host, Some(Redirect::Moved(String::new(), 6381)));
        let six = said("MOVED 1 fe80::1:6381");
        assert_eq!(six, Some(Redirect::Moved("fe80::1".to_owned(), 6381)));
        assert_eq!(said("TRYAGAIN later"), Some(Redirect::Later));
        assert_eq!(
            said("CLUSTERDOWN Hash slot not served"),
            Some(Redirect::Later)
        );
        assert_eq!(said("MOVED nonsense"), None);
        assert_eq!(said("ERR other"), None);
        assert_eq!(of(&Value::Okay), None);
    }
}
