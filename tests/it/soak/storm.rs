//! Starts and stops in a row, some broken off (F28).

use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{millis, note, report, sized, times};
use crate::harness::{Daemon, Mosquitto};

/// What is asked of a start on a machine with two cores: both doors ready.
const READY_MS: f64 = 1_500.0;

#[test]
fn starts_and_stops_in_a_row_leave_nothing_behind() {
    let cycles = sized(6, 100);
    let (mosquitto, memory) = (Mosquitto::start(), TempDir::new().unwrap());
    let broker = format!("[mqtt]\nbroker = \"mqtt://127.0.0.1:{}\"\n", mosquitto.port);
    let mut daemon = Daemon::spawn(&broker, &[("RUNTIME_DIRECTORY", memory.path().to_str().unwrap())]);
    daemon.wait_ready();
    let (mut random, mut ready) = (fastrand::Rng::with_seed(28), times());
    for cycle in 0..cycles {
        if cycle % 3 == 2 {
            daemon.kill();
            // Ended while it starts.
            daemon.respawn();
            std::thread::sleep(Duration::from_millis(random.u64(0..300)));
            daemon.kill();
        } else {
            assert_eq!(daemon.terminate(), Some(0));
        }
        let start = Instant::now();
        daemon.restart();
        note(&mut ready, start.elapsed());
    }
    let left = std::fs::read_dir(memory.path()).unwrap().count();
    report(
        "F28",
        &format!(
            "{cycles} starts: ready after {:.0} ms (median), {:.0} ms (99 %); {left} file in the runtime directory",
            millis(&ready, 0.5),
            millis(&ready, 0.99)
        ),
    );
    assert!(left <= 1, "{left} files are left");
    assert!(millis(&ready, 0.99) <= READY_MS, "ready after {} ms", millis(&ready, 0.99));
}
