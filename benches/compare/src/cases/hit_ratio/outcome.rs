//! What a cache found of its requests.

/// Requests and hits, by number and by bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    requests: u64,
    hits: u64,
    bytes: u64,
    bytes_hit: u64,
}

impl Outcome {
    /// Counts a request for an object of this size.
    pub fn count(&mut self, size: u64, hit: bool) {
        self.requests += 1;
        self.bytes += size;
        self.hits += u64::from(hit);
        self.bytes_hit += if hit { size } else { 0 };
    }

    /// The share of the requests that hit.
    pub fn requests(&self) -> f64 {
        self.hits as f64 / self.requests.max(1) as f64
    }

    /// The share of the bytes that hit.
    pub fn bytes(&self) -> f64 {
        self.bytes_hit as f64 / self.bytes.max(1) as f64
    }
}

impl From<larder_bench::Outcome> for Outcome {
    fn from(outcome: larder_bench::Outcome) -> Self {
        Self {
            requests: outcome.requests,
            hits: outcome.hits,
            bytes: outcome.bytes,
            bytes_hit: outcome.bytes_hit,
        }
    }
}
