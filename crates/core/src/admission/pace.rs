//! How long work will take, to be on the safe side: a running mean and its mean deviation, put together as TCP does
//! for its retransmission timer (RFC 6298). A mean alone is late when the machine slows down; the deviation grows with
//! the first slow batch, and shrinks again while batches keep to the mean.

use std::time::Duration;

/// Weights of the latest batch in the mean and in the deviation, and how many deviations are added: those of RFC 6298.
const GAIN: f64 = 0.125;
const DEVIATION_GAIN: f64 = 0.25;
const DEVIATIONS: f64 = 4.0;

/// Work that every utterance is, on top of its bytes: the two wordpieces that mark begin and end.
const EACH: u64 = 8;

/// A longer text mostly has more wordpieces than an encoder takes, and refusing it costs next to nothing.
const MOST_BYTES: usize = 1024;

/// The work of understanding a text of so many bytes. Its wordpieces aren't known before a thread has tokenised it; their
/// time is in proportion to the bytes to within a third, while one utterance takes up to forty times as long as another.
pub(super) fn work(bytes: usize) -> u64 {
    bytes.min(MOST_BYTES) as u64 + EACH
}

/// Seconds of one thread for one unit of work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    mean: f64,
    deviation: f64,
}

impl Pace {
    /// After a first batch. It tells no deviation, and requests are not to be refused for that.
    pub(super) fn first(work: u64, took: Duration) -> Self {
        Self { mean: took.as_secs_f64() / work as f64, deviation: 0.0 }
    }

    /// After one more batch.
    pub(super) fn then(self, work: u64, took: Duration) -> Self {
        let latest = took.as_secs_f64() / work as f64;
        let off = (latest - self.mean).abs();
        Self {
            mean: self.mean + GAIN * (latest - self.mean),
            deviation: self.deviation + DEVIATION_GAIN * (off - self.deviation),
        }
    }

    /// What this much work will hardly take longer than.
    pub(super) fn time_for(self, work: f64) -> Duration {
        let seconds = work * (self.mean + DEVIATIONS * self.deviation);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}
