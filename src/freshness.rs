//! Whether an object may be served: a pure function of its header, the request's bound and the
//! time. The terms are those of RFC 9111 and RFC 5861.

use std::time::Duration;

use larder_store::{Header, Timestamp};

/// How far a stamp may lie ahead of this process's clock and still count as "now": clocks of the
/// processes that share a tier differ by a little. Beyond it the clock stepped back, and the
/// object's true age is unknown.
pub(crate) const SKEW_MAX: Duration = Duration::from_secs(5);

/// What may be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Serve it.
    Fresh,
    /// Serve it, and fetch it anew behind.
    Stale,
    /// Fetch it anew first; serve it if that fails, where `if_error`.
    Expired { if_error: bool },
}

/// Judges an object at `now`, for a request that accepts at most this age.
#[inline]
pub(crate) fn judge(header: &Header, max_age: Option<Duration>, now: Timestamp) -> Freshness {
    if header.fetched_at.since(now) > SKEW_MAX {
        return Freshness::Expired { if_error: false };
    }
    let age = now.since(header.fetched_at);
    if max_age.is_some_and(|max| age > max) {
        return Freshness::Expired { if_error: false };
    }
    let Some(ttl) = header.ttl else {
        return Freshness::Fresh;
    };
    if age < ttl {
        return Freshness::Fresh;
    }
    if age < ttl.saturating_add(header.stale_while_revalidate) {
        return Freshness::Stale;
    }
    Freshness::Expired {
        if_error: age < ttl.saturating_add(header.stale_if_error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn header() -> Header {
        let mut header = Header::default();
        header.fetched_at = Timestamp::from_millis(1_000_000);
        header.ttl = Some(10 * SECOND);
        header.stale_while_revalidate = 5 * SECOND;
        header.stale_if_error = 20 * SECOND;
        header
    }

    fn after(seconds: u32) -> Freshness {
        judge(&header(), None, header().fetched_at.after(seconds * SECOND))
    }

    #[test]
    fn s43_each_window_ends() {
        assert_eq!(after(9), Freshness::Fresh);
        assert_eq!(after(10), Freshness::Stale);
        assert_eq!(after(15), Freshness::Expired { if_error: true });
        assert_eq!(after(30), Freshness::Expired { if_error: false });
    }

    #[test]
    fn s42_a_stamp_from_the_future_is_not_trusted() {
        let judge_at = |millis| judge(&header(), None, Timestamp::from_millis(millis));
        assert_eq!(
            judge_at(996_000),
            Freshness::Fresh,
            "within the skew of clocks"
        );
        assert_eq!(judge_at(900_000), Freshness::Expired { if_error: false });
        assert_eq!(judge_at(u64::MAX), Freshness::Expired { if_error: false });
    }

    #[test]
    fn a_bound_on_age_overrides_every_window() {
        let now = header().fetched_at.after(8 * SECOND);
        assert_eq!(judge(&header(), Some(8 * SECOND), now), Freshness::Fresh);
        let expired = Freshness::Expired { if_error: false };
        assert_eq!(judge(&header(), Some(7 * SECOND), now), expired);
    }
}
