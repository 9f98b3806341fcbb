//! What one kind of request met: times, and what went wrong.

use std::time::Duration;

use hdrhistogram::Histogram;
use intentd::proto::Timing;

/// Times within three significant digits, in bounded memory.
pub(crate) struct Times(Histogram<u64>);

impl Times {
    fn new() -> Self {
        Self(Histogram::new(3).expect("three digits are a legal precision"))
    }

    pub(crate) fn record(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.record(ns).expect("the histogram grows by itself");
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// In microseconds; none where nothing was recorded.
    pub(crate) fn quantile_us(&self, quantile: f64) -> Option<f64> {
        (self.count() > 0).then(|| self.0.value_at_quantile(quantile) as f64 / 1000.0)
    }
}

/// All slices of one kind of request.
pub(crate) struct Tally {
    /// From the intended start to the answer.
    pub(crate) latency: Times,
    /// What the daemon says of itself: waiting for an inference thread, and understanding.
    pub(crate) queue: Times,
    pub(crate) inference: Times,
    /// Utterances answered; more than `latency` counts where a batch has one time.
    pub(crate) answers: u64,
    /// The daemon said that too much waits.
    pub(crate) refused: u64,
    /// Any other error, or no answer at all.
    pub(crate) failed: u64,
    /// Time in which they were answered.
    pub(crate) elapsed: Duration,
    /// CPU time of the server meanwhile.
    pub(crate) cpu: Duration,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            latency: Times::new(),
            queue: Times::new(),
            inference: Times::new(),
            answers: 0,
            refused: 0,
            failed: 0,
            elapsed: Duration::ZERO,
            cpu: Duration::ZERO,
        }
    }

    /// An utterance that was answered.
    pub(crate) fn answered(&mut self, latency: Duration, inside: Option<&Timing>) {
        self.answers += 1;
        self.latency.record(latency);
        if let Some(inside) = inside {
            let micros = |us: u32| Duration::from_micros(u64::from(us));
            self.queue.record(micros(inside.queue_us));
            self.inference.record(micros(inside.tokenize_us) + micros(inside.inference_us));
        }
    }

    /// Answers in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.answers as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}
