//! `mqtt.probe`: a broker that grants a subscription and delivers nothing is found out, told, and used again once it is mended.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::super::harness::{Daemon, Device, Mosquitto, PATIENCE, wait_for, wait_within};
use super::{DEAD_LETTER, INTENT, JSON_ROUTE, TEXT_ROUTE, UTTERANCE, broker, collect, said, say};
use crate::soak::report;

const PROBE: &str = "probe = true\nusername = \"gateway\"\n";
const TOPIC: &str = "intentd/_probe/_probe/utterance";
const IGNORED: &str = "intentd_mqtt_events_total{event=\"probe\"}";

/// A broker whose access list can be changed: what the daemon (user `gateway`) may do; everybody else may do anything.
struct Strict {
    mosquitto: Mosquitto,
    list: PathBuf,
    _folder: TempDir,
}

impl Strict {
    fn start(gateway: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let list = folder.path().join("acl");
        write(&list, gateway);
        let mosquitto = Mosquitto::start_with(&format!("acl_file {}\n", list.display()));
        Self { mosquitto, list, _folder: folder }
    }

    fn allow(&self, gateway: &str) {
        write(&self.list, gateway);
        self.mosquitto.reload();
    }

    fn daemon(&self, more: &str) -> Daemon {
        Daemon::spawn(&broker(self.mosquitto.port, more), &[])
    }
}

fn write(list: &Path, gateway: &str) {
    std::fs::write(list, format!("topic readwrite #\nuser gateway\n{gateway}\n")).unwrap();
}

/// The daemon's own port is open, so what follows measures the link alone.
fn wait_up(daemon: &Daemon) {
    wait_for("its pages answer", || daemon.get("/healthz").is_some());
}

#[test]
fn a_silent_refusal_is_told_and_ends_by_itself_when_it_is_mended() {
    let strict = Strict::start("topic write #");
    // That is what the probe is for.
    strict.daemon("username = \"gateway\"\n").wait_ready();
    let daemon = strict.daemon(PROBE);
    wait_up(&daemon);
    let start = Instant::now();
    wait_for("the topic and the remedy in readiness", || {
        assert!(daemon.ready().is_err(), "ready, though nothing is delivered");
        daemon.ready().is_err_and(|why| why.contains(TOPIC) && why.contains("access list"))
    });
    let told = start.elapsed();
    // Longer than the first few attempts, which come quickly.
    std::thread::sleep(Duration::from_secs(8));
    assert!(daemon.ready().is_err());
    strict.allow("topic readwrite #");
    let start = Instant::now();
    wait_within(Duration::from_secs(35), "ready again", || daemon.ready().is_ok());
    let mended = start.elapsed();
    report(
        "F14",
        &format!("silent refusal told {told:.1?} after the start, ready {mended:.1?} after it was mended"),
    );
    let mut device = Device::v5(strict.mosquitto.port);
    device.subscribe(INTENT);
    device.subscribe(DEAD_LETTER);
    say(&mut device, 0..1);
    collect(&mut device, 1, PATIENCE);
    assert!(device.receive_within(Duration::from_millis(100), DEAD_LETTER).is_none());
}

/// The other route is served meanwhile, and by a stop as well.
#[test]
fn one_silent_route_hides_behind_no_other() {
    let strict = Strict::start("topic write #\ntopic read intentd/#");
    let mut daemon = strict.daemon(&format!("{PROBE}{JSON_ROUTE}{TEXT_ROUTE}"));
    let mut device = Device::v5(strict.mosquitto.port);
    device.subscribe(INTENT);
    wait_for("the silent route in readiness", || {
        daemon.ready().is_err_and(|why| why.contains("küche/_probe/gesagt") && why.contains("access list"))
    });
    say(&mut device, 0..50);
    assert_eq!(daemon.terminate(), Some(0));
    assert!(daemon.log().contains("answered what was in flight"));
    strict.allow("topic readwrite #");
    daemon.restart();
    collect(&mut device, 50, PATIENCE);
}

#[test]
fn what_cannot_be_probed_is_logged_and_not_held_against_the_broker() {
    let strict = Strict::start("topic read #\ntopic write intentd/+/+/intent\ntopic write intentd/test/#");
    let daemon = strict.daemon(PROBE);
    daemon.wait_ready();
    assert_eq!(daemon.log().matches("can't probe").count(), 1);
    assert!(daemon.log().contains("0x87"), "{}", daemon.log());
    let mut device = Device::v5(strict.mosquitto.port);
    device.subscribe(INTENT);
    device.publish(UTTERANCE, said("1"));
    assert_eq!(device.receive(INTENT).json()["id"], "1");
}

/// mosquitto keeps No Local of a subscription that the session has; the probe comes back all the same. It comes behind
/// what waits, so a backlog must not be taken for silence.
#[test]
fn a_probe_is_switched_on_for_a_session_with_a_backlog() {
    let mosquitto = Mosquitto::start();
    let mut before = Daemon::start(&broker(mosquitto.port, ""));
    assert_eq!(before.terminate(), Some(0));
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);
    device.subscribe(DEAD_LETTER);
    say(&mut device, 0..1000);
    let daemon = Daemon::start(&broker(mosquitto.port, "probe = true\n"));
    collect(&mut device, 1000, PATIENCE);
    assert!(!daemon.log().contains("did not come back"), "a backlog was taken for silence");
    assert!(daemon.metric(IGNORED) >= 1.0);
    assert!(device.receive_within(Duration::from_millis(100), DEAD_LETTER).is_none());
}

/// With the probe off, of another gateway, as a member of a group, and by MQTT 3.1.1, which has no user properties.
#[test]
fn every_intentd_ignores_every_probe() {
    let mosquitto = Mosquitto::start();
    let named =
        |name: &str, more: &str| Daemon::spawn(&broker(mosquitto.port, more), &[("INTENTD__GATEWAY", name)]);
    let shared = format!("session_expiry = \"5min\"\n{JSON_ROUTE}share = \"group\"\n");
    let others = [named("plain", ""), named("old", "protocol = \"3.1.1\"\n"), named("member", &shared)];
    others.iter().for_each(Daemon::wait_ready);
    let mut device = Device::v5(mosquitto.port);
    for topic in ["intentd/+/+/intent", "intentd/+/dead-letter"] {
        device.subscribe(topic);
    }
    let prober = Daemon::start(&broker(mosquitto.port, "probe = true\n"));
    for daemon in others.iter().chain([&prober]) {
        wait_for("the probe is ignored", || daemon.metric(IGNORED) == 1.0);
        assert_eq!(daemon.metric("intentd_mqtt_events_total{event=\"acknowledged\"}"), 1.0);
        assert_eq!(daemon.metric("intentd_mqtt_in_flight"), 0.0);
    }
    for name in ["plain", "old", "member", "test"] {
        let letters = format!("intentd/{name}/dead-letter");
        assert!(device.receive_within(Duration::from_millis(50), &letters).is_none(), "{name}");
    }
    assert!(device.receive_within(Duration::from_millis(50), "intentd/_probe/_probe/intent").is_none());
}
