//! What time it is in a server, as far as a connection to it can tell.

use std::{sync::Mutex, time::Duration};

use redis::{Cmd, ServerErrorKind, Value};
use tokio::time::Instant;

/// For how long a reading counts: two clocks that run at different speeds part by some 0.1 ms a
/// second at worst.
const READING_MAX: Duration = Duration::from_secs(60);

/// A server's clock, read now and then.
pub(super) struct Clock(Mutex<Reading>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// This user may not ask, or the server does not know the question.
    Refused,
    /// The server could not answer at the time.
    Unknown,
    /// The server's time in milliseconds, and when its answer was there. So what is reckoned from
    /// it is behind the server's time, by as long as the answer took.
    At(u64, Instant),
}

pub(super) fn question() -> Cmd {
    redis::cmd("TIME")
}

impl Clock {
    pub(super) fn new(reading: Reading) -> Self {
        Self(Mutex::new(reading))
    }

    pub(super) fn get(&self) -> Reading {
        *self.reading()
    }

    /// Keeps what it was if the server could not answer.
    pub(super) fn set(&self, new: Reading) -> Reading {
        let mut reading = self.reading();
        if new != Reading::Unknown {
            *reading = new;
        }
        *reading
    }

    fn reading(&self) -> std::sync::MutexGuard<'_, Reading> {
        let reading = self.0.lock();
        reading.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Reading {
    /// From an answer that has just come.
    pub(super) fn of(answer: Value) -> Self {
        match answer {
            Value::ServerError(error) => match error.kind() {
                Some(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError) => Self::Refused,
                _ => Self::Unknown,
            },
            answer => match redis::from_redis_value::<(u64, u64)>(answer) {
                Ok((seconds, micros)) => Self::At(seconds * 1000 + micros / 1000, Instant::now()),
                Err(_) => Self::Refused,
            },
        }
    }

    /// Whether the server is to be asked (again).
    pub(super) fn is_due(self) -> bool {
        match self {
            Self::Refused => false,
            Self::Unknown => true,
            Self::At(_, since) => since.elapsed() > READING_MAX,
        }
    }

    /// The server's time at this moment or a little earlier, in milliseconds.
    pub(super) fn time_at(self, moment: Instant) -> Option<u64> {
        let Self::At(millis, since) = self else {
            return None;
        };
        let passed = moment.saturating_duration_since(since).as_millis();
        Some(millis.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(line: &str) -> Value {
        redis::parse_redis_value(line.as_bytes()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reading_goes_on_and_is_old_after_a_minute() {
        let reading = Reading::of(line("*2\r\n$2\r\n12\r\n$6\r\n345678\r\n"));
        let now = Instant::now();
        assert_eq!(reading.time_at(now), Some(12_345));
        assert_eq!(reading.time_at(now + READING_MAX), Some(72_345));
        tokio::time::advance(READING_MAX).await;
        assert!(!reading.is_due());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(reading.is_due());
    }

    #[test]
    fn a_server_that_refuses_is_not_asked_again_and_one_that_is_busy_is() {
        let refused = Reading::of(line("-NOPERM this user has no permissions\r\n"));
        let busy = Reading::of(line("-BUSY Redis is busy running a script.\r\n"));
        assert_eq!((refused, refused.is_due()), (Reading::Refused, false));
        assert_eq!((busy, busy.is_due()), (Reading::Unknown, true));
        assert_eq!(refused.time_at(Instant::now()), None);
        let clock = Clock::new(Reading::At(1, Instant::now()));
        assert_eq!(clock.set(busy).time_at(Instant::now()), Some(1));
        assert_eq!(clock.set(refused), Reading::Refused);
    }
}
