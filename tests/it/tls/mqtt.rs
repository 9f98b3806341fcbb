use std::time::Duration;

use super::{Authority, Daemon};
use crate::harness::{Device, Mosquitto, free_port, wait_for, wait_within};

const INTENT: &str = "intentd/home/kitchen/intent";
const UTTERANCE: &str = "intentd/home/kitchen/utterance";

/// mosquitto with a plain listener for devices and one with TLS for the daemon, on the second port.
fn broker(authority: &Authority, certificate: &str, more: &str) -> (Mosquitto, u16) {
    let port = free_port();
    let path = |file: &str| authority.path(file).display().to_string();
    let mosquitto = Mosquitto::start_with(&format!(
        "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n{more}",
        path("ca.crt"),
        path(&format!("{certificate}.crt")),
        path(&format!("{certificate}.key")),
    ));
    wait_for("mosquitto listens with TLS", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (mosquitto, port)
}

fn daemon_at(port: u16, keys: &str, tls: &str) -> Daemon {
    Daemon::spawn(&format!("[mqtt]\nbroker = \"mqtts://127.0.0.1:{port}\"\n{keys}\n[mqtt.tls]\n{tls}"), &[])
}

fn trusted(authority: &Authority) -> String {
    format!("ca = \"{}\"\n", authority.path("ca.crt").display())
}

fn shown(authority: &Authority, name: &str) -> String {
    let path = |end: &str| authority.path(&format!("{name}.{end}")).display().to_string();
    format!("cert = \"{}\"\nkey = \"{}\"\n", path("crt"), path("key"))
}

fn understands(mosquitto: &Mosquitto) {
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);
    device.publish(UTTERANCE, r#"{"id": "1", "text": "turn on the kitchen lights"}"#);
    assert_eq!(device.receive(INTENT).json()["id"], "1");
}

/// Not ready, for a reason with these words, and it keeps trying.
#[track_caller]
fn stays_outside(daemon: &Daemon, words: &[&str]) {
    let all = |why: &str| words.iter().all(|word| why.contains(word));
    let mut last = String::new();
    wait_within(Duration::from_secs(10), "a reason in readiness", || {
        last = daemon.ready().err().unwrap_or_default();
        last.contains("mqtt:") && !last.contains("not connected yet")
    });
    wait_within(Duration::from_secs(10), &format!("{words:?} in readiness, last {last}"), || {
        daemon.ready().is_err_and(|why| all(&why))
    });
    wait_within(Duration::from_secs(10), "more than one try", || {
        daemon.log().matches("no connection to the broker").count() > 1
    });
}

#[test]
fn utterances_are_understood_through_mutual_tls() {
    let ours = Authority::new("ours");
    ours.issue("broker");
    ours.issue("gateway");
    let (mosquitto, port) =
        broker(&ours, "broker", "require_certificate true\nuse_identity_as_username true\n");
    for protocol in ["5", "3.1.1"] {
        let files = trusted(&ours) + &shown(&ours, "gateway");
        let daemon = daemon_at(port, &format!("protocol = \"{protocol}\""), &files);
        daemon.wait_ready();
        understands(&mosquitto);
    }
}

#[test]
fn a_broker_that_wants_a_certificate_is_told_from_one_that_refuses_it() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    ours.issue("broker");
    theirs.issue("gateway");
    let (_mosquitto, port) = broker(&ours, "broker", "require_certificate true\n");
    for protocol in ["5", "3.1.1"] {
        let protocol = format!("protocol = \"{protocol}\"");
        let without = daemon_at(port, &protocol, &trusted(&ours));
        stays_outside(&without, &["mqtt.tls.cert", "mqtt.tls.key"]);
        let wrong = daemon_at(port, &protocol, &(trusted(&ours) + &shown(&theirs, "gateway")));
        stays_outside(&wrong, &["mqtt.tls.cert", "CA has signed"]);
    }
}

/// What is wrong with the broker's certificate, what the daemon says, and that it comes in by itself once that is mended.
#[test]
fn a_bad_certificate_of_the_broker_is_explained_and_tried_again() {
    for (name, hosts, years, words) in [
        ("expired", ["127.0.0.1", "localhost"], (2020, 2021), &["expired", "renew it", "clock"][..]),
        ("early", ["127.0.0.1", "localhost"], (2998, 2999), &["not valid yet", "set the clock"]),
        (
            "elsewhere",
            ["127.0.0.2", "broker.lan"],
            (2020, 2999),
            &["another name", "subjectAltName", "mqtt.broker"],
        ),
    ] {
        let ours = Authority::new("ours");
        ours.issue_for(name, &hosts, years);
        let (mut mosquitto, port) = broker(&ours, name, "");
        let daemon = daemon_at(port, "", &trusted(&ours));
        stays_outside(&daemon, words);
        ours.issue(name);
        mosquitto.stop();
        mosquitto.resume();
        daemon.wait_ready();
        understands(&mosquitto);
    }
}

/// The files are read for each connection: the operator mends the file, and no restart is needed.
#[test]
fn a_wrong_authority_is_explained_and_can_be_replaced() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    ours.issue("broker");
    let (mosquitto, port) = broker(&ours, "broker", "");
    let daemon = daemon_at(port, "", &trusted(&theirs));
    stays_outside(&daemon, &["unknown CA", "mqtt.tls.ca"]);
    std::fs::write(theirs.path("ca.crt"), "no certificate").unwrap();
    wait_for("the unreadable file in readiness", || {
        daemon.ready().is_err_and(|why| why.contains("mqtt.tls.ca") && why.contains("BEGIN CERTIFICATE"))
    });
    std::fs::copy(ours.path("ca.crt"), theirs.path("ca.crt")).unwrap();
    daemon.wait_ready();
    understands(&mosquitto);
}

#[test]
fn the_plain_port_of_a_broker_is_told() {
    let ours = Authority::new("ours");
    let mosquitto = Mosquitto::start();
    let daemon = daemon_at(mosquitto.port, "", &trusted(&ours));
    stays_outside(&daemon, &["TLS", "mqtt.broker", "8883"]);
}
