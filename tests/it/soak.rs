//! The fault table at length: crashes, brokers that come and go, overload and endurance, with their figures. In CI each
//! runs in its short form; `scripts/soak` sets `INTENTD_SOAK=1` and takes the long one.

mod brokers;
mod crashes;
mod endurance;
mod overload;
mod storm;
mod traffic;

use std::time::Duration;

use hdrhistogram::Histogram;

/// The short or the long form.
pub(crate) fn sized<T>(short: T, long: T) -> T {
    if std::env::var_os("INTENTD_SOAK").is_some() { long } else { short }
}

/// One line for the report, which `scripts/soak` collects.
pub(crate) fn report(fault: &str, figures: &str) {
    println!("FIGURE {fault}: {figures}");
}

/// Times to take quantiles of, microseconds up to a minute.
fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).unwrap()
}

fn note(times: &mut Histogram<u64>, time: Duration) {
    times.saturating_record(u64::try_from(time.as_micros()).unwrap());
}

/// Milliseconds below which a fraction of them lies.
fn millis(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1000.0
}
