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

/// Of a question about passages: what is read of the question, of a passage in one window, and what of that no earlier
/// window had; some five bytes for each wordpiece of the bundles here (48, 77 and 45 of them).
const QUESTION_BYTES: usize = 240;
const WINDOW_BYTES: usize = 385;
const NEW_BYTES: usize = 225;

/// The work of understanding a text of so many bytes. Its wordpieces aren't known before a thread has tokenised it; their
/// time is in proportion to the bytes to within a third, while one utterance takes up to forty times as long as another.
pub fn text_work(bytes: usize) -> u64 {
    bytes.min(MOST_BYTES) as u64 + EACH
}

/// The work of a question about passages of so many bytes. Each is read in windows that hold the question again and
/// overlap: by far the most work that one request can be.
pub fn question_work(question: usize, passages: impl Iterator<Item = usize>) -> u64 {
    passages
        .map(|bytes| {
            (1 + bytes / NEW_BYTES) as u64 * text_work(question.min(QUESTION_BYTES) + bytes.min(WINDOW_BYTES))
        })
        .sum()
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
