//! Whether an object may be served: a pure function of its header, the request's bound and the
//! time. The terms are those of RFC 9111 and RFC 5861.

use std::time::Duration;

use larder_store::{Header, Timestamp};

/// How far a stamp may lie ahead of this process's clock and still count as "now": clocks of the
/// processes that share a tier differ by a little. Beyond it the clock stepped back, and the
/// object's true age is unknown.
pub(crate) const SKEW_MAX: Duration = Duration::from_secs(5);

/// Which objects a request accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The oldest that it accepts.
    pub(crate) max_age: Option<Duration>,
    /// Whether it accepts one within `stale_while_revalidate`: it has a fetcher, or said so.
    pub(crate) stale: bool,
}

/// Whether an object may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Serve it.
    Fresh,
    /// Serve it, and refresh it in the background.
    Stale,
    /// Fetch it again first; serve it if that fails, where `if_error`.
    Expired { if_error: bool },
}

impl Freshness {
    /// Whether it may be served at once.
    #[inline]
    pub(crate) fn serves(self) -> bool {
        !matches!(self, Self::Expired { .. })
    }

    /// Whether it may be served when fetching it again has failed.
    pub(crate) fn serves_on_error(self) -> bool {
        !matches!(self, Self::Expired { if_error: false })
    }
}

/// Assesses an object at `now`. [`Engine::assess`](crate::engine::Engine::assess) is the one caller
/// that serves by it.
#[inline]
pub(crate) fn assess(header: &Header, terms: Terms, now: Timestamp) -> Freshness {
    if header.fetched_at.since(now) > SKEW_MAX {
        return Freshness::Expired { if_error: false };
    }
    let age = now.since(header.fetched_at);
    if terms.max_age.is_some_and(|max| age > max) {
        return Freshness::Expired { if_error: false };
    }
    let Some(ttl) = header.ttl else {
        return Freshness::Fresh;
    };
    if age < ttl {
        return Freshness::Fresh;
    }
    if terms.stale && age < ttl.saturating_add(header.stale_while_revalidate) {
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

    /// A request with a fetcher and no bound on age.
    const FETCHES: Terms = Terms {
        max_age: None,
        stale: true,
    };

    fn after(seconds: u32, terms: Terms) -> Freshness {
        assess(
            &header(),
            terms,
            header().fetched_at.after(seconds * SECOND),
        )
    }

    #[test]
    fn s43_each_window_ends() {
        assert_eq!(after(9, FETCHES), Freshness::Fresh);
        assert_eq!(after(10, FETCHES), Freshness::Stale);
        assert_eq!(after(15, FETCHES), Freshness::Expired { if_error: true });
        assert_eq!(after(30, FETCHES), Freshness::Expired { if_error: false });
    }

    #[test]
    fn s96_a_request_that_revalidates_nothing_gets_nothing_stale() {
        let gets = Terms::default();
        assert_eq!(after(9, gets), Freshness::Fresh);
        assert_eq!(after(10, gets), Freshness::Expired { if_error: true });
    }

    #[test]
    fn s42_a_stamp_from_the_future_is_not_trusted() {
        let at = |millis| assess(&header(), FETCHES, Timestamp::from_millis(millis));
        assert_eq!(at(996_000), Freshness::Fresh, "within the skew of clocks");
        assert_eq!(at(900_000), Freshness::Expired { if_error: false });
        assert_eq!(at(u64::MAX), Freshness::Expired { if_error: false });
    }

    #[test]
    fn a_bound_on_age_overrides_every_window() {
        let now = header().fetched_at.after(8 * SECOND);
        let within = |seconds: u32| Terms {
            max_age: Some(seconds * SECOND),
            ..FETCHES
        };
        assert_eq!(assess(&header(), within(8), now), Freshness::Fresh);
        let expired = Freshness::Expired { if_error: false };
        assert_eq!(assess(&header(), within(7), now), expired);
    }
}
