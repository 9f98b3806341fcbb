//! Waiting longer after each failure, with jitter, so that a crowd doesn't come back at one moment.

use std::time::Duration;

/// Delays from 100 ms up to 30 s: each failure doubles the ceiling, and the delay is drawn between floor and ceiling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Shortest delay.
    pub const FLOOR: Duration = Duration::from_millis(100);
    /// Longest delay.
    pub const CEILING: Duration = Duration::from_secs(30);

    /// Notes a failure and says how long to wait. `random` is uniform in 0..1.
    pub fn next(&mut self, random: f64) -> Duration {
        // 2^9 floors are above the ceiling already.
        let doublings = self.failures.saturating_add(1).min(9);
        self.failures = self.failures.saturating_add(1);
        let ceiling = (Self::FLOOR * (1 << doublings)).min(Self::CEILING);
        let random = if random > 0.0 { random.min(1.0) } else { 0.0 };
        Self::FLOOR + (ceiling - Self::FLOOR).mul_f64(random)
    }

    /// Failures since the last reset.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// All is well again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceiling_doubles_up_to_thirty_seconds() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..10).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(delays, [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff.failures(), 10);
        backoff.reset();
        assert_eq!(backoff.next(1.0).as_millis(), 200);
    }

    #[test]
    fn jitter_stays_between_floor_and_ceiling() {
        for random in [-1.0, 0.0, f64::NAN, 0.5, 1.0, 7.0] {
            let mut backoff = Backoff::default();
            for _ in 0..1000 {
                let delay = backoff.next(random);
                assert!((Backoff::FLOOR..=Backoff::CEILING).contains(&delay), "{delay:?}");
            }
        }
    }

    #[test]
    fn a_dead_broker_is_tried_at_most_seventy_times_in_ten_minutes() {
        let (mut backoff, mut random, mut attempts) = (Backoff::default(), 0.0_f64, 0);
        let mut elapsed = Duration::ZERO;
        while elapsed < Duration::from_secs(600) {
            random = (random + 0.618_034).fract();
            elapsed += backoff.next(random);
            attempts += 1;
        }
        assert!(attempts <= 70, "{attempts}");
    }
}
