//! Bad input: each kind has its dead letter, is acknowledged, and holds nothing up.

use std::time::Duration;

use base64::Engine as _;

use super::super::harness::{Daemon, Device, Mosquitto};
use super::{DEAD_LETTER, INTENT, JSON_ROUTE, UTTERANCE, broker, said, trio};

#[test]
fn each_kind_has_its_reason() {
    let (_mosquitto, daemon, mut device) = trio(&format!("{JSON_ROUTE}max_age = \"60s\"\n"));
    let too_long = format!(r#"{{"id": "i", "text": "{}"}}"#, "a".repeat(5000));
    let expired = r#"{"id": "i", "text": "on", "timestamp": "2026-02-01T00:00:00Z"}"#;
    let cases: [(&str, &[u8], &str); 7] = [
        (UTTERANCE, b"{\"text\"", "bad_json"),
        (UTTERANCE, b"{\"text\": [1]}", "bad_json"),
        (UTTERANCE, b"{\"text\": \"\xff\"}", "bad_utf8"),
        (UTTERANCE, b"{\"text\": \" \"}", "empty"),
        (UTTERANCE, too_long.as_bytes(), "too_long"),
        (UTTERANCE, expired.as_bytes(), "expired"),
        ("intentd/home/kü che/utterance", b"{\"text\": \"on\"}", "bad_topic"),
    ];
    for (topic, payload, reason) in cases {
        device.publish(topic, payload);
        let letter = device.receive(DEAD_LETTER);
        assert!(!letter.retain);
        let letter = letter.json();
        assert_eq!(
            (letter["reason"].as_str(), letter["topic"].as_str()),
            (Some(reason), Some(topic)),
            "{letter}"
        );
        let sent =
            base64::engine::general_purpose::STANDARD.decode(letter["payload_base64"].as_str().unwrap());
        assert_eq!(sent.unwrap(), payload);
        assert!(!letter["message"].as_str().unwrap().is_empty());
        if reason == "too_long" || reason == "expired" {
            assert_eq!(
                (letter["id"].as_str(), letter["site"].as_str()),
                (Some("i"), Some("home")),
                "{letter}"
            );
        }
        let metric = format!("intentd_mqtt_dead_letters_total{{reason=\"{reason}\"}}");
        assert!(daemon.metric(&metric) >= 1.0, "{metric}");
    }
    device.publish(UTTERANCE, said("good"));
    assert_eq!(device.receive(INTENT).json()["id"], "good");
}

#[test]
fn ten_windows_of_bad_messages_hold_nothing_up() {
    let (_mosquitto, daemon, mut device) = trio("");
    for _ in 0..640 {
        device.publish(UTTERANCE, "{");
    }
    device.publish(UTTERANCE, said("good"));
    assert_eq!(device.receive(INTENT).json()["id"], "good");
    assert_eq!(daemon.metric("intentd_mqtt_dead_letters_total{reason=\"bad_json\"}"), 640.0);
}

#[test]
fn a_huge_payload_costs_no_connection() {
    for (protocol, kilobytes, letters) in [("5", 100, 1.0), ("5", 300, 0.0), ("3.1.1", 300, 1.0)] {
        let (_mosquitto, daemon, mut device) = trio(&format!("protocol = \"{protocol}\"\n"));
        device.publish(UTTERANCE, "x".repeat(kilobytes * 1024));
        device.publish(UTTERANCE, said("good"));
        assert_eq!(device.receive(INTENT).json()["id"], "good", "{protocol} {kilobytes}");
        // Under MQTT 5 the broker keeps back what is above our Maximum Packet Size.
        assert_eq!(
            daemon.metric("intentd_mqtt_dead_letters_total{reason=\"too_long\"}"),
            letters,
            "{protocol}"
        );
        assert_eq!(daemon.metric("intentd_mqtt_connections_total"), 1.0, "{protocol} {kilobytes}");
    }
}

#[test]
fn an_intent_that_the_broker_refuses_becomes_a_dead_letter() {
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        rules.path(),
        format!("topic read #\ntopic write {UTTERANCE}\ntopic write intentd/test/#\n"),
    )
    .unwrap();
    let mosquitto = Mosquitto::start_with(&format!("acl_file {}", rules.path().display()));
    let daemon = Daemon::start(&broker(mosquitto.port, ""));
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(DEAD_LETTER);
    device.publish(UTTERANCE, said("denied"));
    super::super::harness::wait_for("it isn't ready", || daemon.ready().is_err());
    let letter = device.receive(DEAD_LETTER).json();
    assert_eq!((letter["id"].as_str(), letter["reason"].as_str()), (Some("denied"), Some("publish_refused")));
    assert_eq!(letter["attempts"], 5);
    super::super::harness::wait_within(Duration::from_secs(5), "it is ready again", || {
        daemon.ready().is_ok()
    });
}

#[test]
fn the_text_is_nowhere_in_the_log() {
    let (_mosquitto, mut daemon, mut device) = trio("");
    device.publish(UTTERANCE, r#"{"id": "1", "text": "xylophone canary"}"#);
    device.receive(INTENT);
    device.publish(UTTERANCE, r#"{"id": "2", "text": ["xylophone canary"]}"#);
    device.receive(DEAD_LETTER);
    assert_eq!(daemon.terminate(), Some(0));
    assert!(!daemon.log().contains("xylophone"), "{}", daemon.log());
}
