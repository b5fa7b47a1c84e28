//! How long objects live: plain data, merged field by field.

use std::time::Duration;

use larder_store::{Error, Header, Result, Timestamp};

/// Lifetimes of objects. A field that is unset leaves the decision to the next policy outward:
/// the fetch result's comes first, then the request's, then the cache's, then [`Policy::DEFAULT`].
///
/// ```
/// use std::time::Duration;
/// use larder::Policy;
///
/// let cache = Policy::new().ttl(Duration::from_secs(60)).jitter(0.1);
/// let request = Policy::new().ttl(Duration::from_secs(5));
/// let merged = request.or(cache);
/// assert_eq!(merged.ttl, Some(Duration::from_secs(5)));
/// assert_eq!(merged.jitter, Some(0.1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Policy {
    /// How long an object is fresh, counted from when its fetch began.
    pub ttl: Option<Duration>,
    /// How long past `ttl` it is still served at once while it is refreshed in the background.
    /// Where no policy sets it: 30 s, but at most the `ttl`, and zero under an endless one.
    pub stale_while_revalidate: Option<Duration>,
    /// How long past `ttl` it is served when fetching it again fails. Where no policy sets it:
    /// 10 minutes, but zero under a `ttl` that is zero or endless.
    pub stale_if_error: Option<Duration>,
    /// How long "the origin has none" is believed; zero does not store it.
    pub negative_ttl: Option<Duration>,
    /// How long after a failed fetch its error is given again instead of fetching.
    pub error_ttl: Option<Duration>,
    /// How long past all of that a store keeps the object, so that it can be revalidated.
    pub keep: Option<Duration>,
    /// The share of `ttl` by which it is shortened at random, so that objects that were fetched
    /// together do not expire together: 0.0 to 1.0. It belongs to the policy that sets the `ttl`:
    /// one that a request, a draft or a fetch result sets is exact unless that sets a jitter too.
    pub jitter: Option<f64>,
}

/// A policy with every field decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetimes {
    pub(crate) ttl: Duration,
    pub(crate) stale_while_revalidate: Duration,
    pub(crate) stale_if_error: Duration,
    pub(crate) negative_ttl: Duration,
    pub(crate) error_ttl: Duration,
    pub(crate) keep: Duration,
    pub(crate) jitter: f64,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $field:ident: $type:ty),* $(,)?) => {
        $($(#[$doc])* #[must_use]
        pub const fn $field(mut self, $field: $type) -> Self {
            self.$field = Some($field);
            self
        })*
    };
}

impl Policy {
    /// What holds where nobody decides otherwise. The two windows are the longest that hold so, see
    /// [`stale_while_revalidate`](Self#structfield.stale_while_revalidate).
    pub const DEFAULT: Self = Self {
        ttl: Some(Duration::from_secs(60)),
        stale_while_revalidate: Some(Duration::from_secs(30)),
        stale_if_error: Some(Duration::from_secs(600)),
        negative_ttl: Some(Duration::from_secs(5)),
        error_ttl: Some(Duration::ZERO),
        keep: Some(Duration::from_secs(86_400)),
        jitter: Some(0.05),
    };

    /// A policy that decides nothing.
    pub const fn new() -> Self {
        Self {
            ttl: None,
            stale_while_revalidate: None,
            stale_if_error: None,
            negative_ttl: None,
            error_ttl: None,
            keep: None,
            jitter: None,
        }
    }

    setters! {
        /// Sets [`ttl`](Self#structfield.ttl).
        ttl: Duration,
        /// Sets [`stale_while_revalidate`](Self#structfield.stale_while_revalidate).
        stale_while_revalidate: Duration,
        /// Sets [`stale_if_error`](Self#structfield.stale_if_error).
        stale_if_error: Duration,
        /// Sets [`negative_ttl`](Self#structfield.negative_ttl).
        negative_ttl: Duration,
        /// Sets [`error_ttl`](Self#structfield.error_ttl).
        error_ttl: Duration,
        /// Sets [`keep`](Self#structfield.keep).
        keep: Duration,
        /// Sets [`jitter`](Self#structfield.jitter).
        jitter: f64,
    }

    /// Fills the unset fields from an outer policy.
    #[must_use]
    pub fn or(self, outer: Self) -> Self {
        Self {
            ttl: self.ttl.or(outer.ttl),
            stale_while_revalidate: self.stale_while_revalidate.or(outer.stale_while_revalidate),
            stale_if_error: self.stale_if_error.or(outer.stale_if_error),
            negative_ttl: self.negative_ttl.or(outer.negative_ttl),
            error_ttl: self.error_ttl.or(outer.error_ttl),
            keep: self.keep.or(outer.keep),
            jitter: self.jitter.or(outer.jitter),
        }
    }

    /// As [`or`](Self::or), except that a `ttl` that this one sets is not shortened by the jitter
    /// of the outer one.
    pub(crate) fn over(self, outer: Self) -> Self {
        let exact = self.ttl.map(|_| 0.0);
        Self {
            jitter: self.jitter.or(exact).or(outer.jitter),
            ..self.or(outer)
        }
    }

    /// Checks the lifetimes that hold under this policy alone, with its unset fields decided as their
    /// documentation says. A cache checks its policy so when it is built, and what a request or a
    /// draft sets merged over that. What a fetch result sets comes from the origin and fails no read.
    ///
    /// # Errors
    ///
    /// `Invalid` for a jitter outside 0.0 to 1.0, and for lifetimes that contradict: a window that is
    /// set, and not zero, under a `ttl` that never ends; an `error_ttl` longer than the
    /// `stale_if_error` that bridges it, unless that is zero.
    pub fn check(&self) -> Result<()> {
        if self
            .jitter
            .is_some_and(|jitter| !(0.0..=1.0).contains(&jitter))
        {
            return Err(Error::invalid(
                "jitter is a share of the ttl, from 0.0 to 1.0",
            ));
        }
        let endless = self.ttl == Some(Duration::MAX);
        let set = |window: Option<Duration>| window.is_some_and(|window| !window.is_zero());
        if endless && (set(self.stale_while_revalidate) || set(self.stale_if_error)) {
            return Err(Error::invalid(
                "a ttl that never ends leaves nothing to be stale after it",
            ));
        }
        let Lifetimes {
            error_ttl,
            stale_if_error,
            ..
        } = self.lifetimes();
        if !stale_if_error.is_zero() && error_ttl > stale_if_error {
            return Err(Error::invalid(
                "error_ttl is longer than stale_if_error, which is to bridge it",
            ));
        }
        Ok(())
    }

    /// The policy with its gaps filled from [`Policy::DEFAULT`].
    pub(crate) fn lifetimes(self) -> Lifetimes {
        let merged = self.or(Self::DEFAULT);
        let decided = |field: Option<Duration>| field.unwrap_or_default();
        let ttl = decided(merged.ttl);
        let (while_revalidate, if_error) = match ttl {
            Duration::ZERO | Duration::MAX => (Duration::ZERO, Duration::ZERO),
            ttl => {
                let Self {
                    stale_while_revalidate,
                    stale_if_error,
                    ..
                } = Self::DEFAULT;
                (
                    decided(stale_while_revalidate).min(ttl),
                    decided(stale_if_error),
                )
            }
        };
        Lifetimes {
            ttl,
            stale_while_revalidate: self.stale_while_revalidate.unwrap_or(while_revalidate),
            stale_if_error: self.stale_if_error.unwrap_or(if_error),
            negative_ttl: decided(merged.negative_ttl),
            error_ttl: decided(merged.error_ttl),
            keep: decided(merged.keep),
            // A fetch result's is not checked: it comes from the origin.
            jitter: merged.jitter.unwrap_or_default().clamp(0.0, 1.0),
        }
    }
}

impl Lifetimes {
    /// Stamps a header whose fetch began at `at`. `roll`, from 0.0 to 1.0, decides the jitter.
    pub(crate) fn stamp(&self, header: &mut Header, at: Timestamp, roll: f64) {
        header.fetched_at = at;
        if header.absent {
            header.ttl = Some(self.negative_ttl);
            header.stale_while_revalidate = Duration::ZERO;
            header.stale_if_error = Duration::ZERO;
            header.expires_at = Some(at.after(self.negative_ttl));
            return;
        }
        let ttl = self.shortened(roll);
        header.ttl = Some(ttl);
        header.stale_while_revalidate = self.stale_while_revalidate;
        header.stale_if_error = self.stale_if_error;
        let stale = self.stale_while_revalidate.max(self.stale_if_error);
        header.expires_at = Some(at.after(ttl).after(stale).after(self.keep));
    }

    /// The `ttl` less its jitter; without one exactly what was set.
    fn shortened(&self, roll: f64) -> Duration {
        let share = self.jitter * roll;
        if share == 0.0 {
            return self.ttl;
        }
        Duration::try_from_secs_f64(self.ttl.as_secs_f64() * (1.0 - share)).unwrap_or(self.ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn contradictions_are_refused() {
        assert!(Policy::DEFAULT.check().is_ok());
        for policy in [
            Policy::new().jitter(1.5),
            Policy::new().jitter(-0.1),
            Policy::new().jitter(f64::NAN),
            Policy::new().ttl(Duration::MAX).stale_if_error(SECOND),
            Policy::new().error_ttl(2 * SECOND).stale_if_error(SECOND),
            Policy::new().error_ttl(601 * SECOND),
        ] {
            assert!(policy.check().unwrap_err().is_invalid(), "{policy:?}");
        }
        let no_window = Policy::new().error_ttl(601 * SECOND);
        for policy in [
            Policy::new().error_ttl(600 * SECOND),
            no_window.stale_if_error(Duration::ZERO),
            no_window.ttl(Duration::ZERO),
            no_window.ttl(Duration::MAX),
            Policy::new().ttl(Duration::MAX),
        ] {
            assert!(policy.check().is_ok(), "{policy:?}");
        }
    }

    #[test]
    fn jitter_only_shortens_and_stamps_never_overflow() {
        let lifetimes = Policy::new().ttl(100 * SECOND).jitter(0.2).lifetimes();
        let mut header = Header::default();
        lifetimes.stamp(&mut header, Timestamp::from_millis(1_000), 0.5);
        assert_eq!(header.ttl, Some(90 * SECOND));
        let endless = Policy::new().ttl(Duration::MAX).lifetimes();
        endless.stamp(&mut header, Timestamp::from_millis(1_000), 0.0);
        assert_eq!(header.expires_at, Some(Timestamp::from_millis(u64::MAX)));
    }

    #[test]
    fn s96_windows_that_nobody_set_follow_the_ttl() {
        let windows = |policy: Policy| {
            let lifetimes = policy.lifetimes();
            (lifetimes.stale_while_revalidate, lifetimes.stale_if_error)
        };
        let ttl = |ttl| windows(Policy::new().ttl(ttl));
        assert_eq!(windows(Policy::new()), (30 * SECOND, 600 * SECOND));
        assert_eq!(ttl(45 * SECOND), (30 * SECOND, 600 * SECOND));
        assert_eq!(ttl(5 * SECOND), (5 * SECOND, 600 * SECOND));
        assert_eq!(ttl(Duration::ZERO), (Duration::ZERO, Duration::ZERO));
        assert_eq!(ttl(Duration::MAX), (Duration::ZERO, Duration::ZERO));
        let set = Policy::new().stale_while_revalidate(9 * SECOND);
        assert_eq!(windows(set.ttl(SECOND)).0, 9 * SECOND);
        assert_eq!(windows(set.ttl(Duration::ZERO)).0, 9 * SECOND);
    }

    #[test]
    fn s96_jitter_belongs_to_the_policy_that_sets_the_ttl() {
        let ttl = Policy::new().ttl(5 * SECOND);
        let cache = Policy::new().ttl(60 * SECOND).jitter(0.5);
        let percent = |policy: Policy| (policy.lifetimes().jitter * 100.0).round().to_string();
        assert_eq!(percent(ttl.over(cache)), "0");
        assert_eq!(percent(ttl.jitter(0.1).over(cache)), "10");
        assert_eq!(percent(Policy::new().over(cache)), "50");
        assert_eq!(percent(Policy::new().over(ttl.over(cache))), "0");
        assert_eq!(percent(ttl), "5", "of the builder's policy");
        let jitter = Policy::new().jitter(0.2);
        assert_eq!(percent(jitter.over(ttl.over(cache))), "20");
    }

    /// The table of the README tells the defaults of the code.
    #[test]
    fn the_readme_tells_the_defaults() {
        let readme = include_str!("../README.md");
        let told = |field: &str| {
            let row = readme
                .lines()
                .find(|line| line.starts_with(&format!("| `{field}` ")));
            let row = row.unwrap_or_else(|| panic!("no row for {field}"));
            row.split('|')
                .nth(3)
                .expect("three columns")
                .trim()
                .to_owned()
        };
        let duration = |text: &str| {
            let (number, unit) = text.split_once(' ').unwrap_or((text, "s"));
            let unit = match unit {
                "s" => 1,
                "min" => 60,
                "day" => 86_400,
                unit => panic!("a unit that is not known: {unit}"),
            };
            Some(number.parse::<u32>().expect("a number") * unit * SECOND)
        };
        let default = Policy::DEFAULT;
        assert_eq!(duration(&told("ttl")), default.ttl);
        assert_eq!(
            duration(&told("stale_while_revalidate")),
            default.stale_while_revalidate
        );
        assert_eq!(duration(&told("stale_if_error")), default.stale_if_error);
        assert_eq!(duration(&told("negative_ttl")), default.negative_ttl);
        assert_eq!(duration(&told("error_ttl")), default.error_ttl);
        assert_eq!(duration(&told("keep")), default.keep);
        assert_eq!(told("jitter").parse().ok(), default.jitter);
    }
}
