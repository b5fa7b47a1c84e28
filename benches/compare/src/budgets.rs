//! What Larder is held to: section 6 of the design, as far as there are cases for it.

/// A limit to the median of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Larder's own figure is at most this.
    AtMost(f64),
    /// Larder's own figure is at least this.
    AtLeast(f64),
    /// The peer's figure is at least so many times Larder's.
    TimesLarder(f64),
    /// Larder's figure is at most so many times the peer's.
    LarderTimes(f64),
    /// Larder's figure is at most the peer's and so much more.
    LarderPlus(f64),
}

impl Budget {
    /// Whether it is met by a figure and, where there is one, Larder's beside it.
    pub fn is_met(self, value: f64, larder: Option<f64>) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
            Self::TimesLarder(limit) => larder.map(|larder| value >= limit * larder),
            Self::LarderTimes(limit) => larder.map(|larder| larder <= limit * value),
            Self::LarderPlus(limit) => larder.map(|larder| larder <= value + limit),
        }
    }

    /// As it stands in reports.
    pub fn describe(self, unit: &str) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {limit} {unit}"),
            Self::AtLeast(limit) => format!(">= {limit} {unit}"),
            Self::TimesLarder(limit) => format!(">= {limit}x larder"),
            Self::LarderTimes(limit) => format!("larder <= {limit}x"),
            Self::LarderPlus(limit) => format!("larder <= +{limit} {unit}"),
        }
    }
}

/// The budget of a peer in a case, if there is one.
pub fn of(case: &str, peer: &str) -> Option<Budget> {
    let parts: Vec<&str> = case.split('/').collect();
    match peer {
        "larder" => of_larder(&parts),
        "larder-best" => of_best(&parts),
        _ => beside(&parts, peer),
    }
}

#[allow(clippy::match_same_arms)] // In the order of the cases, not of the limits.
fn of_larder(case: &[&str]) -> Option<Budget> {
    Some(match case {
        ["disk", "hit", "100B", _, "cpu"] => Budget::AtMost(3_000.0),
        ["disk", "hit", "4KiB", _, "cpu"] => Budget::AtMost(5_000.0),
        ["disk", "hit", "64KiB", _, "cpu"] => Budget::AtMost(20_000.0),
        ["disk", "burst", "100B", _, "wall" | "cpu"] => Budget::AtMost(2_000.0),
        ["disk", "burst", _, _, "kept" | "reopened"] => Budget::AtLeast(100.0),
        ["disk", "burst", _, _, "space" | "closed"] => Budget::AtMost(2.0),
        ["disk", "stream", _, "memory"] => Budget::AtMost(16.0),
        ["disk", "reopen", "10M", "clean", "wall"] => Budget::AtMost(1_000.0),
        ["disk", "reopen", "10M", "killed", "wall"] => Budget::AtMost(3_000.0),
        ["disk", "reopen", _, _, "found"] => Budget::AtLeast(100.0),
        ["disk", "index", ..] => Budget::AtMost(32.0),
        ["disk", "store", "4KiB", "get", "cpu"] => Budget::AtMost(5_000.0),
        ["disk", "store", "64KiB", "get", "cpu"] => Budget::AtMost(20_000.0),
        ["disk", "allocs", "100B" | "4KiB" | "64KiB"] => Budget::AtMost(4.0),
        ["memory", "allocs", "hit"] => Budget::AtMost(0.0),
        ["memory", "allocs", "miss"] => Budget::AtMost(24.0),
        ["memory", "miss", _, "cpu"] => Budget::AtMost(5_000.0),
        ["memory", "stampede", "fetches"] => Budget::AtMost(1.0),
        ["memory", "followers", "first", _] => Budget::AtMost(5.0),
        ["memory", "followers", "memory"] => Budget::AtMost(32.0),
        ["hit-ratio", _, "behind"] => Budget::AtMost(2.0),
        _ => return None,
    })
}

/// Of the best of Larder's policies.
fn of_best(case: &[&str]) -> Option<Budget> {
    match case {
        ["hit-ratio", _, "behind"] => Some(Budget::AtMost(0.5)),
        _ => None,
    }
}

fn beside(case: &[&str], peer: &str) -> Option<Budget> {
    Some(match (case, peer) {
        (["disk", "hit", "4KiB", "1tasks", _], "foyer-hybrid") => Budget::TimesLarder(5.0),
        (["disk", "hit", "4KiB", "16tasks", _], "foyer-hybrid") => Budget::TimesLarder(4.0),
        (["disk", "stream", _, "both", _], "plain-256KiB" | "plain-1MiB") => {
            Budget::TimesLarder(0.8)
        }
        (["disk", "below", _, _], "store") => Budget::TimesLarder(0.8),
        (["memory", "hit", "256keys", _, "cpu"], "quick_cache") => Budget::LarderPlus(150.0),
        (["memory", "hit", "256keys", _, "cpu"], "foyer-hybrid") => Budget::LarderTimes(0.6),
        // Met beside each of them, it is met beside the best.
        (["memory", "stampede", "cpu" | "wall"], _) => Budget::LarderTimes(1.2),
        (["redis", "get" | "set", _, _, "cpu" | "wall"], "redis") => Budget::TimesLarder(0.85),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_found_by_case_and_peer() {
        assert_eq!(
            of("disk/hit/100B/16tasks/cpu", "larder"),
            Some(Budget::AtMost(3_000.0))
        );
        assert_eq!(of("disk/hit/100B/16tasks/wall", "larder"), None);
        let serial = of("disk/hit/4KiB/1tasks/wall", "foyer-hybrid");
        assert_eq!(serial, Some(Budget::TimesLarder(5.0)));
        assert_eq!(
            serial.and_then(|budget| budget.is_met(10.0, Some(2.1))),
            Some(false)
        );
        assert_eq!(serial.and_then(|budget| budget.is_met(10.0, None)), None);
    }

    #[test]
    fn the_default_and_the_best_policy_are_held_apart() {
        let met = |peer, value| {
            of("hit-ratio/loop/behind", peer).and_then(|budget| budget.is_met(value, None))
        };
        assert_eq!(met("larder", 1.9), Some(true));
        assert_eq!(met("larder", 2.1), Some(false));
        assert_eq!(met("larder-best", -3.0), Some(true));
        assert_eq!(met("larder-best", 0.6), Some(false));
        assert_eq!(of("hit-ratio/loop/requests", "larder"), None);
        assert_eq!(of("hit-ratio/loop/requests", "moka-tinylfu"), None);
    }

    #[test]
    fn larder_is_held_to_what_its_peers_do() {
        let hit = "memory/hit/256keys/1tasks/cpu";
        let met = |case, peer, value, larder| {
            of(case, peer).and_then(|budget| budget.is_met(value, Some(larder)))
        };
        assert_eq!(met(hit, "quick_cache", 40.0, 190.0), Some(true));
        assert_eq!(met(hit, "quick_cache", 40.0, 191.0), Some(false));
        assert_eq!(met(hit, "foyer-hybrid", 300.0, 180.0), Some(true));
        assert_eq!(met(hit, "foyer-hybrid", 300.0, 181.0), Some(false));
        assert_eq!(met(hit, "moka", 1.0, 1_000.0), None);
        let stampede = "memory/stampede/wall";
        assert_eq!(met(stampede, "moka", 10.0, 12.0), Some(true));
        assert_eq!(met(stampede, "foyer-memory", 10.0, 12.1), Some(false));
    }
}
