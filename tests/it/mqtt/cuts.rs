//! The line is cut after any byte that either side sends while the daemon connects, subscribes and answers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::super::harness::proxy::{PUBACK, Packet, Way};
use super::super::harness::{Daemon, Device, Mosquitto, PATIENCE, Proxy, wait_for, wait_within};
use super::super::soak::{millis, note, report, sized, times};
use super::promises::check;
use super::{INTENT, UTTERANCE, broker, collect_more, retained_state, said};

/// Utterances that wait at the broker for each session.
const SAID: usize = 2;

/// The first back-off is at most 200 ms; the rest is for connecting and for asking, on a busy machine.
const BACK: Duration = Duration::from_millis(1_500);

/// Sessions differ in length, since the times in the intents differ in digits.
const SLACK: usize = 80;

#[test]
fn after_any_byte_nothing_is_lost() {
    let mut stage = Stage::new();
    let whole = stage.whole_session();
    let mut tried = 0;
    for way in [Way::ToBroker, Way::FromBroker] {
        let length: usize = sizes(&whole, way).sum();
        for after in sized(chosen(&whole, way), (0..length).collect()) {
            tried += 1;
            let was_cut = stage.cut_session(way, after);
            assert!(was_cut || after + SLACK > length, "{way:?}: not cut after byte {after} of {length}");
        }
    }
    check(&stage.proxy.packets());
    assert!(!stage.daemon.log().contains("panicked"), "{}", stage.daemon.log());
    assert_eq!(retained_state(stage.mosquitto.port), "online");
    let (median, longest) = (millis(&stage.back, 0.5), millis(&stage.back, 1.0));
    report(
        "F5",
        &format!(
            "cut after {tried} different bytes, {} of them before the end: 0 of {} lost; subscribed again after \
             {median:.0} ms (median), {longest:.0} ms (longest)",
            stage.back.len(),
            stage.said
        ),
    );
}

fn sizes(packets: &[Packet], way: Way) -> impl Iterator<Item = usize> {
    packets.iter().filter(move |packet| packet.way == way).map(|packet| packet.bytes)
}

/// Before each packet, after its first byte, in its middle and before its last byte.
fn chosen(packets: &[Packet], way: Way) -> BTreeSet<usize> {
    let mut start = 0;
    let mut chosen = BTreeSet::new();
    for bytes in sizes(packets, way) {
        chosen.extend([start, start + 1, start + bytes / 2, start + bytes - 1]);
        start += bytes;
    }
    chosen
}

struct Stage {
    mosquitto: Mosquitto,
    proxy: Proxy,
    daemon: Daemon,
    device: Device,
    said: usize,
    heard: BTreeSet<usize>,
    /// From each cut to the next SUBACK.
    back: Histogram<u64>,
}

impl Stage {
    /// The daemon has been there once, so that the broker keeps a session for it.
    fn new() -> Self {
        let mosquitto = Mosquitto::start();
        let proxy = Proxy::start(mosquitto.port);
        let daemon = Daemon::start(&broker(proxy.port, ""));
        let device = Device::v5(mosquitto.port);
        device.subscribe(INTENT);
        Self { mosquitto, proxy, daemon, device, said: 0, heard: BTreeSet::new(), back: times() }
    }

    /// The packets of a session that nobody cuts.
    fn whole_session(&mut self) -> Vec<Packet> {
        self.away();
        let line = self.proxy.lines();
        self.daemon.respawn();
        self.hear();
        let session = || {
            let packets = self.proxy.packets().into_iter();
            packets.filter(|packet| packet.line == line).collect::<Vec<_>>()
        };
        let acknowledged = |packet: &&Packet| packet.way == Way::ToBroker && packet.kind == PUBACK;
        wait_for("all is acknowledged", || session().iter().filter(acknowledged).count() == SAID);
        session()
    }

    /// Whether the session was long enough to be cut there.
    fn cut_session(&mut self, way: Way, after: usize) -> bool {
        self.away();
        let line = self.proxy.lines();
        self.proxy.cut_next(way, after);
        self.daemon.respawn();
        self.hear();
        wait_for("nothing is in flight", || self.daemon.metric_if_up("intentd_mqtt_in_flight") == Some(0.0));
        let last_bytes = Instant::now() + Duration::from_millis(500);
        while self.proxy.last_cut().is_none() && Instant::now() < last_bytes {
            std::thread::sleep(Duration::from_millis(5));
        }
        let Some(cut) = self.proxy.last_cut() else { return false };
        wait_within(BACK, "it is subscribed again", || {
            self.proxy.lines() > line + 1 && self.daemon.ready().is_ok()
        });
        note(&mut self.back, cut.elapsed());
        true
    }

    /// The daemon is gone, and the broker has new utterances for it.
    fn away(&mut self) {
        self.daemon.kill();
        for _ in 0..SAID {
            self.device.publish(UTTERANCE, said(&self.said.to_string()));
            self.said += 1;
        }
        self.device.wait_acknowledged();
    }

    /// Until every utterance has its intent.
    #[track_caller]
    fn hear(&mut self) {
        collect_more(&mut self.device, &mut self.heard, self.said, PATIENCE);
    }
}
