//! What is sent, and what comes back.

use larder_store::Error;
use redis::{Arg, Cmd, Pipeline, RedisError, Value};

/// Permits of one connection: this many small requests, or 16 MiB of large ones, are sent and
/// unanswered at a time. Further ones wait, within their time-out.
pub(super) const UNITS_MAX: u32 = 1024;

/// A request takes one unit, and one more for each of these bytes.
const UNIT_BYTES: usize = 16 << 10;

/// One command, or several that are sent together.
#[derive(Clone, Copy)]
pub(super) enum Request<'a> {
    Command(&'a Cmd),
    /// With the number of replies to skip, and of those to keep after them.
    Pipeline(&'a Pipeline, usize, usize),
}

/// What came back; errors of the server are values in here.
pub(super) enum Reply {
    One(Value),
    Many(Vec<Value>),
}

/// Why nothing came back.
pub(super) enum Failure {
    /// The connection went away before the request was sent; another may take it.
    Unsent,
    /// There is no connection.
    Down(Error),
    /// The connection broke with the request under way: whether it took effect is unknown.
    Broken(RedisError),
}

impl Request<'_> {
    /// How many permits the request takes; at most half of all, so that two of the largest
    /// requests do not wait for each other's answer.
    pub(super) fn units(&self) -> u32 {
        let units = match self {
            Self::Command(command) => 1 + bytes(command) / UNIT_BYTES,
            Self::Pipeline(pipeline, ..) => {
                let bytes: usize = pipeline.cmd_iter().map(bytes).sum();
                pipeline.len() + bytes / UNIT_BYTES
            }
        };
        u32::try_from(units)
            .unwrap_or(u32::MAX)
            .clamp(1, UNITS_MAX / 2)
    }
}

impl Reply {
    /// The reply to a single command.
    pub(super) fn one(self) -> Value {
        match self {
            Self::One(value) => value,
            Self::Many(mut values) => values.pop().unwrap_or(Value::Nil),
        }
    }

    /// The replies to a pipeline.
    pub(super) fn many(self) -> Vec<Value> {
        match self {
            Self::One(value) => vec![value],
            Self::Many(values) => values,
        }
    }

    /// Whether the server says that it became a replica.
    pub(super) fn is_read_only(&self) -> bool {
        let read_only = |value: &Value| {
            matches!(value, Value::ServerError(error)
                if error.kind() == Some(redis::ServerErrorKind::ReadOnly))
        };
        match self {
            Self::One(value) => read_only(value),
            Self::Many(values) => values.iter().any(read_only),
        }
    }
}

fn bytes(command: &Cmd) -> usize {
    command
        .args_iter()
        .map(|arg| match arg {
            Arg::Simple(bytes) => bytes.len(),
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_requests_take_more_units_but_never_all() {
        let mut command = redis::cmd("SET");
        assert_eq!(Request::Command(&command).units(), 1);
        command.arg("key").arg(vec![0_u8; 1 << 20]);
        assert_eq!(Request::Command(&command).units(), 65);
        command.arg(vec![0_u8; 32 << 20]);
        assert_eq!(Request::Command(&command).units(), UNITS_MAX / 2);
    }
}
