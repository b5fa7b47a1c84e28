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
}

impl Budget {
    /// Whether it is met by a figure and, where there is one, its ratio to Larder's.
    pub fn is_met(self, value: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
            Self::TimesLarder(limit) => ratio.map(|ratio| ratio >= limit),
        }
    }

    /// As it stands in reports.
    pub fn describe(self, unit: &str) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {limit} {unit}"),
            Self::AtLeast(limit) => format!(">= {limit} {unit}"),
            Self::TimesLarder(limit) => format!(">= {limit}x larder"),
        }
    }
}

/// The budget of a peer in a case, if there is one.
pub fn of(case: &str, peer: &str) -> Option<Budget> {
    let parts: Vec<&str> = case.split('/').collect();
    match peer {
        "larder" => of_larder(&parts),
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
        ["disk", "allocs", "100B" | "4KiB" | "64KiB"] => Budget::AtMost(4.0),
        _ => return None,
    })
}

fn beside(case: &[&str], peer: &str) -> Option<Budget> {
    Some(match (case, peer) {
        (["disk", "hit", "4KiB", "1tasks", _], "foyer-hybrid") => Budget::TimesLarder(5.0),
        (["disk", "hit", "4KiB", "16tasks", _], "foyer-hybrid") => Budget::TimesLarder(4.0),
        (["disk", "stream", _, "both", _], "plain-256KiB" | "plain-1MiB") => {
            Budget::TimesLarder(0.8)
        }
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
            serial.and_then(|budget| budget.is_met(10.0, Some(4.9))),
            Some(false)
        );
        assert_eq!(serial.and_then(|budget| budget.is_met(10.0, None)), None);
    }
}
