//! A broker that stands still: its connections stay open, and nothing comes.

use std::time::{Duration, Instant};

use super::super::harness::{Daemon, Device, Mosquitto, PATIENCE, Proxy, wait_within};
use super::super::soak::{report, sized};
use super::promises::check;
use super::{INTENT, broker, collect, collect_more, retained_state, say};

/// The least that rumqttc takes.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What the daemon may grow by while it waits.
const GROWTH: u64 = 5 * 1024 * 1024;

const SAID: usize = 500;

#[test]
fn a_broker_that_stands_still_is_noticed_and_waited_for() {
    let silence = Duration::from_secs(sized(12, 90));
    let mosquitto = Mosquitto::start();
    let proxy = Proxy::start(mosquitto.port);
    let keep_alive = format!("keep_alive = \"{}s\"\n", KEEP_ALIVE.as_secs());
    let daemon = Daemon::start(&broker(proxy.port, &keep_alive));
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);
    // All the memory that answers take has been used once.
    say(&mut device, 0..SAID);
    let mut heard = collect(&mut device, SAID, PATIENCE);
    let before = daemon.resident_bytes();
    say(&mut device, SAID..2 * SAID);
    mosquitto.freeze();
    let start = Instant::now();
    // The margin is for asking.
    wait_within(2 * KEEP_ALIVE + Duration::from_millis(500), "the silence is noticed", || {
        daemon.ready().is_err()
    });
    let (noticed, why) = (start.elapsed(), daemon.ready().unwrap_err());
    let mut most = before;
    while start.elapsed() < silence {
        most = most.max(daemon.resident_bytes());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(most <= before + GROWTH, "{before} bytes before, {most} while the broker stood still");
    mosquitto.thaw();
    let start = Instant::now();
    collect_more(&mut device, &mut heard, 2 * SAID, PATIENCE);
    wait_within(PATIENCE, "it is ready again", || daemon.ready().is_ok());
    let answered = start.elapsed();
    check(&proxy.packets());
    // The last will of each connection that it gave up has been overtaken.
    assert_eq!(retained_state(mosquitto.port), "online");
    report(
        "F7",
        &format!(
            "{silence:?} of silence: noticed after {noticed:.1?} ({why}), {} KiB more memory, all answered and ready \
             {answered:.1?} after",
            (most - before) / 1024
        ),
    );
}
