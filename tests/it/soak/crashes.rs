//! The daemon is killed at random moments (F1).

use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::traffic::Traffic;
use super::{millis, note, report, sized, times};
use crate::harness::{Daemon, Mosquitto, PATIENCE};

/// What the broker may hand over again after a kill: the receive maximum.
const WINDOW: usize = 64;

const PER_SECOND: u32 = 200;

/// What is asked of a start: both doors ready.
const READY: Duration = Duration::from_secs(2);

#[test]
fn kills_at_random_moments_lose_nothing() {
    let (utterances, kills) = sized((2_000, 5), (10_000, 20));
    let (mosquitto, memory) = (Mosquitto::start(), TempDir::new().unwrap());
    let broker = format!("[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n", mosquitto.port);
    let mut daemon = Daemon::spawn(&broker, &[("RUNTIME_DIRECTORY", memory.path().to_str().unwrap())]);
    daemon.wait_ready();
    let mut traffic = Traffic::new(mosquitto.port);

    let mut random = fastrand::Rng::with_seed(1);
    let part = utterances / kills;
    let moments: Vec<_> = (0..kills).map(|kill| kill * part + random.usize(1..=part / 2)).collect();
    let (mut killed, mut starting, mut ready) = (0, None, times());
    traffic.run(utterances, PER_SECOND, |said| {
        if moments.get(killed).is_some_and(|moment| said >= *moment) && starting.is_none() {
            daemon.kill();
            daemon.respawn();
            (killed, starting) = (killed + 1, Some(Instant::now()));
        }
        if let Some(since) = starting
            && daemon.ready().is_ok()
        {
            note(&mut ready, since.elapsed());
            starting = None;
        }
    });
    traffic.settle(PATIENCE);

    let figures = traffic.check();
    let slowest = Duration::from_micros(ready.max());
    report(
        "F1",
        &format!(
            "{killed} kills at {PER_SECOND}/s: {figures}; ready again after {:.0} ms (median), {:.0} ms (longest)",
            millis(&ready, 0.5),
            millis(&ready, 1.0)
        ),
    );
    assert_eq!(killed, kills);
    assert!(traffic.duplicates <= WINDOW * kills, "{} duplicates", traffic.duplicates);
    assert!(slowest <= READY, "ready after {slowest:?}");
}
