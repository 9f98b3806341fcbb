//! Utterances come as fast as they can, and each acknowledgement of an intent half a second late.

use std::time::{Duration, Instant};

use super::super::harness::fake_broker::hold;
use super::super::harness::proxy::Packet;
use super::super::harness::{Daemon, FakeBroker, Proxy};
use super::super::soak::{report, sized};
use super::promises::{check, check_order};
use super::{broker, said};

const LATE: Duration = Duration::from_millis(500);

const DEVICES: usize = 8;

/// What the daemon may grow by.
const GROWTH: u64 = 32 * 1024 * 1024;

/// From a broker that heeds the receive maximum.
#[test]
fn window_by_window() {
    flood(&FakeBroker::start(), "receive_maximum = 256\n", "heeds the receive maximum");
}

/// From one that doesn't: most of what it sends has no place, is left to it, and comes again.
#[test]
fn all_at_once() {
    flood(&FakeBroker::pushing(1000), "", "pushes 1,000 at a time");
}

fn flood(fake: &FakeBroker, more: &str, kind: &str) {
    let (utterances, limit) = sized((2_000, Duration::from_secs(60)), (50_000, Duration::from_secs(1_200)));
    let proxy = Proxy::start(fake.port);
    let daemon = Daemon::start(&broker(proxy.port, more));
    fake.answer(hold);
    let before = daemon.resident_bytes();
    let start = Instant::now();
    for id in 0..utterances {
        fake.say(&topic(id % DEVICES, "utterance"), said(&id.to_string()));
    }
    let (mut most, mut sampled) = (before, start);
    while fake.owed() > 0 {
        assert!(start.elapsed() < limit, "{} of {utterances} are not answered after {limit:?}", fake.owed());
        fake.acknowledge_older_than(LATE);
        if sampled.elapsed() > Duration::from_millis(100) {
            most = most.max(daemon.resident_bytes());
            sampled = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let took = start.elapsed();
    let packets: Vec<Packet> = proxy.packets();
    check(&packets);
    (0..DEVICES).for_each(|device| check_order(&packets, &topic(device, "intent")));
    report(
        "F9",
        &format!(
            "{utterances} from a broker that {kind}: all answered in {took:.1?}, in order, on {} connections; \
             memory grew by {:.1} MiB",
            proxy.lines(),
            (most - before) as f64 / 1024.0 / 1024.0
        ),
    );
    assert!(most <= before + GROWTH, "{before} bytes before, {most} in the flood");
}

fn topic(device: usize, what: &str) -> String {
    format!("intentd/home/device-{device}/{what}")
}
