//! The retained status topic.

use super::super::harness::{Daemon, Device, Mosquitto};
use super::{INTENT, STATUS, UTTERANCE, broker, said};

/// The next state, as (state, whether it was retained).
#[track_caller]
fn next(device: &mut Device) -> (String, bool) {
    let message = device.receive(STATUS);
    let status = message.json();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["model"]["name"], "home-en");
    (status["state"].as_str().unwrap().to_owned(), message.retain)
}

#[test]
fn status_follows_the_daemons_life() {
    for protocol in ["5", "3.1.1"] {
        let mosquitto = Mosquitto::start();
        let mut daemon = Daemon::start(&broker(mosquitto.port, &format!("protocol = \"{protocol}\"\n")));
        let mut device = Device::v5(mosquitto.port);
        device.subscribe(STATUS);
        assert_eq!(next(&mut device), ("online".to_owned(), true));

        assert_eq!(daemon.terminate(), Some(0));
        assert_eq!(next(&mut device).0, "draining");
        assert_eq!(next(&mut device).0, "offline");
        let mut later = Device::v5(mosquitto.port);
        later.subscribe(STATUS);
        assert_eq!(next(&mut later), ("offline".to_owned(), true));

        daemon.restart();
        assert_eq!(next(&mut device).0, "online");
        daemon.kill();
        assert_eq!(next(&mut device).0, "offline", "the last will, {protocol}");
    }
}

#[test]
fn a_graceful_stop_answers_what_is_in_flight() {
    let mosquitto = Mosquitto::start();
    let mut daemon = Daemon::start(&broker(mosquitto.port, ""));
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);
    super::say(&mut device, 0..100);
    assert_eq!(daemon.terminate(), Some(0));
    // What it had not taken waits for the next start.
    daemon.restart();
    super::collect(&mut device, 100, super::super::harness::PATIENCE);
    let again =
        std::iter::from_fn(|| device.receive_within(std::time::Duration::from_millis(300), INTENT)).count();
    assert_eq!(again, 0, "answered twice across a graceful stop");
}

#[test]
fn a_member_of_a_group_leaves_it_to_the_others() {
    let mosquitto = Mosquitto::start();
    let shared = |name: &str| {
        let route = format!("{}share = \"workers\"\n", super::JSON_ROUTE);
        broker(mosquitto.port, &format!("client_id = \"{name}\"\nsession_expiry = \"5min\"\n{route}"))
    };
    let (mut first, second) = (Daemon::start(&shared("first")), Daemon::start(&shared("second")));
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);
    super::say(&mut device, 0..20);
    super::collect(&mut device, 20, super::super::harness::PATIENCE);
    assert!(second.metric("intentd_mqtt_events_total{event=\"received\"}") > 0.0);
    assert_eq!(first.terminate(), Some(0));
    for i in 20..30 {
        device.publish(UTTERANCE, said(&i.to_string()));
        assert_eq!(super::id_of(&device.receive(INTENT)), i);
    }
}
