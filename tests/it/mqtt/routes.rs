//! What goes in and what comes out, over both versions of MQTT.

use std::process::Command;
use std::time::Duration;

use super::super::harness::{Daemon, Device, Mosquitto};
use super::{INTENT, JSON_ROUTE, TEXT_ROUTE, UTTERANCE, broker, said, trio};

/// A JSON and a text route, whatever lies between.
fn both_routes_answer(device: &mut Device) {
    device.subscribe("intentd/home/+/intent");
    device.subscribe("küche/+/gemeint");
    let text = "turn on the kitchen lights";
    let attributes = r#"{"volume": "3"}"#;
    let payload = format!(r#"{{"id": "1", "text": "{text}", "area": "ground", "attributes": {attributes}}}"#);
    device.publish(UTTERANCE, payload);
    let answer = device.receive(INTENT).json();
    assert_eq!(answer["id"], "1");
    assert_eq!(answer["text"], text);
    assert_eq!(answer["context"]["site"], "home");
    assert_eq!(answer["context"]["device"], "kitchen");
    assert_eq!(answer["context"]["area"], "ground");
    assert_eq!(answer["context"]["attributes"]["volume"], "3");
    assert!(
        ["RECOGNIZED", "UNCERTAIN", "NOT_RECOGNIZED"].contains(&answer["outcome"].as_str().unwrap()),
        "{answer}"
    );
    assert_eq!(answer["model"]["name"], "home-en");
    assert!(answer["timing"]["tokens"].as_u64().unwrap() > 2, "{answer}");
    assert!(answer["slots"].is_array() && answer.get("error").is_none(), "{answer}");

    device.publish("küche/taster/gesagt", text);
    let answer = device.receive("küche/taster/gemeint").json();
    assert_eq!((answer["text"].as_str(), answer["context"]["device"].as_str()), (Some(text), Some("taster")));
    assert!(uuid::Uuid::parse_str(answer["id"].as_str().unwrap()).is_ok(), "{answer}");
}

#[test]
fn both_routes_answer_over_mqtt_5() {
    let (mosquitto, _daemon, mut device) = trio(&format!("{JSON_ROUTE}{TEXT_ROUTE}"));
    both_routes_answer(&mut device);
    an_old_device_is_answered(mosquitto.port);
}

#[test]
fn both_routes_answer_over_mqtt_3_1_1() {
    let (_mosquitto, _daemon, mut device) = trio(&format!("protocol = \"3.1.1\"\n{JSON_ROUTE}{TEXT_ROUTE}"));
    both_routes_answer(&mut device);
}

/// mosquitto's own clients, which speak 3.1.1 and are not ours.
fn an_old_device_is_answered(port: u16) {
    let port = port.to_string();
    let listen = ["-p", &port, "-t", INTENT, "-C", "1", "-W", "15", "-q", "1"];
    let listener =
        Command::new("mosquitto_sub").args(listen).stdout(std::process::Stdio::piped()).spawn().unwrap();
    // It has no way to say that it is subscribed.
    std::thread::sleep(Duration::from_millis(500));
    let message = said("from mosquitto_pub");
    let speak = ["-p", &port, "-t", UTTERANCE, "-q", "1", "-m", &message];
    assert!(Command::new("mosquitto_pub").args(speak).status().unwrap().success());
    let heard = listener.wait_with_output().unwrap().stdout;
    let answer: serde_json::Value = serde_json::from_slice(&heard).unwrap();
    assert_eq!(answer["id"], "from mosquitto_pub");
}

#[test]
fn a_message_without_a_route_is_acknowledged_and_the_next_is_answered() {
    // The subscription of an earlier configuration stays in the session that the broker keeps.
    let mosquitto = Mosquitto::start();
    let other = "[[mqtt.routes]]\nsubscribe = \"old/{device}\"\npublish = \"new/{device}\"\n";
    let mut before = Daemon::start(&broker(mosquitto.port, other));
    assert_eq!(before.terminate(), Some(0));
    let daemon = Daemon::start(&broker(mosquitto.port, ""));
    let mut device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);
    device.publish("old/panel", said("lost"));
    device.publish(UTTERANCE, said("found"));
    assert_eq!(device.receive(INTENT).json()["id"], "found");
    assert_eq!(daemon.metric("intentd_mqtt_events_total{event=\"unrouted\"}"), 1.0);
}

#[test]
fn qos_0_is_answered_and_counted() {
    let (_mosquitto, daemon, mut device) = trio("");
    device.publish_qos0(UTTERANCE, said("0"));
    assert_eq!(device.receive(INTENT).json()["id"], "0");
    assert_eq!(daemon.metric("intentd_mqtt_events_total{event=\"qos0\"}"), 1.0);
}

#[test]
fn what_was_retained_is_ignored() {
    for (protocol, counted) in [("3.1.1", 1.0), ("5", 0.0)] {
        let mosquitto = Mosquitto::start();
        let mut device = Device::v5(mosquitto.port);
        device.subscribe(INTENT);
        device.publish_retained(UTTERANCE, said("yesterday"));
        device.wait_acknowledged();
        let daemon = Daemon::start(&broker(mosquitto.port, &format!("protocol = \"{protocol}\"\n")));
        device.publish(UTTERANCE, said("today"));
        assert_eq!(device.receive(INTENT).json()["id"], "today", "{protocol}");
        assert!(device.receive_within(Duration::from_millis(200), INTENT).is_none(), "{protocol}");
        // Under MQTT 5 the subscription asks the broker not to send it at all.
        assert_eq!(daemon.metric("intentd_mqtt_events_total{event=\"retained\"}"), counted, "{protocol}");
    }
}
