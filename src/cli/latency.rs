//! Quantiles of measured times.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Times within three significant digits, in bounded memory.
pub(super) struct Latency(Histogram<u64>);

impl Latency {
    pub(super) fn new() -> Self {
        Self(Histogram::new(3).expect("three digits are a legal precision"))
    }

    pub(super) fn record(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // Not saturating_record: that one stops at the histogram's first, tiny range.
        self.0.record(ns).expect("the histogram grows by itself");
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the histogram grows by itself");
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// In microseconds; none when nothing was recorded.
    pub(super) fn quantile_us(&self, quantile: f64) -> Option<f64> {
        (self.count() > 0).then(|| self.0.value_at_quantile(quantile) as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_microseconds() {
        let mut latency = Latency::new();
        assert_eq!(latency.quantile_us(0.5), None);
        let mut slow = Latency::new();
        (1..=98).for_each(|ms| latency.record(Duration::from_millis(ms)));
        slow.record(Duration::from_secs(2));
        slow.record(Duration::from_secs(3));
        latency.merge(&slow);
        let near = |quantile: f64, us: f64| {
            let value = latency.quantile_us(quantile).unwrap();
            assert!((value / us - 1.0).abs() < 0.002, "{value} is not {us}");
        };
        near(0.5, 50_000.0);
        near(0.99, 2_000_000.0);
        near(1.0, 3_000_000.0);
        assert_eq!(latency.count(), 100);
    }
}
