//! Utterances over MQTT: what comes out of each route, what becomes of bad input, and that no fault loses one.

mod acknowledgements;
mod cuts;
mod dead_letters;
mod embedded;
mod faults;
mod flood;
mod latency;
mod mqtt5;
mod poison;
mod probe;
mod promises;
mod refusals;
mod routes;
mod silence;
mod sizes;
mod status;
mod takeover;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::harness::{Daemon, Device, Message, Mosquitto};

/// A second route, whose payload is the text, with letters that no topic library may stumble over.
const TEXT_ROUTE: &str = "[[mqtt.routes]]\nsubscribe = \"küche/{device}/gesagt\"\n\
    publish = \"küche/{device}/gemeint\"\ncodec = \"text\"\n";

/// The default route, which a file's routes would replace.
const JSON_ROUTE: &str = "[[mqtt.routes]]\nsubscribe = \"intentd/{site}/{device}/utterance\"\n\
    publish = \"intentd/{site}/{device}/intent\"\ncodec = \"json\"\n";

const UTTERANCE: &str = "intentd/home/kitchen/utterance";
const INTENT: &str = "intentd/home/kitchen/intent";
const DEAD_LETTER: &str = "intentd/test/dead-letter";
const STATUS: &str = "intentd/test/status";

/// `[mqtt]` for a broker on this port, with more keys and routes.
fn broker(port: u16, more: &str) -> String {
    format!("[mqtt]\nbroker = \"mqtt://127.0.0.1:{port}\"\n{more}")
}

/// mosquitto, a daemon at it, and a device that listens to intents and dead letters.
fn trio(more: &str) -> (Mosquitto, Daemon, Device) {
    let mosquitto = Mosquitto::start();
    let daemon = Daemon::start(&broker(mosquitto.port, more));
    let device = Device::v5(mosquitto.port);
    device.subscribe(INTENT);
    device.subscribe(DEAD_LETTER);
    (mosquitto, daemon, device)
}

fn said(id: &str) -> String {
    format!(r#"{{"id": "{id}", "text": "turn on the kitchen lights"}}"#)
}

/// Publishes so many utterances with ids of their own and waits until the broker has them all.
fn say(device: &mut Device, range: std::ops::Range<usize>) {
    for i in range {
        device.publish(UTTERANCE, said(&i.to_string()));
    }
    device.wait_acknowledged();
}

/// The ids of the intents that come, until there are `wanted` different ones.
#[track_caller]
fn collect(device: &mut Device, wanted: usize, limit: Duration) -> BTreeSet<usize> {
    let mut ids = BTreeSet::new();
    collect_more(device, &mut ids, wanted, limit);
    ids
}

/// The same beside those that came before.
#[track_caller]
fn collect_more(device: &mut Device, ids: &mut BTreeSet<usize>, wanted: usize, limit: Duration) {
    let end = Instant::now() + limit;
    while ids.len() < wanted {
        let left = end.saturating_duration_since(Instant::now());
        let Some(message) = device.receive_within(left, INTENT) else {
            let missing: Vec<_> = (0..wanted).filter(|id| !ids.contains(id)).collect();
            panic!("{} of {wanted} answered within {limit:?}; missing {missing:?}", ids.len());
        };
        ids.insert(id_of(&message));
    }
}

/// What the broker has kept of the daemon's status.
#[track_caller]
fn retained_state(port: u16) -> String {
    let mut late = Device::v5(port);
    late.subscribe(STATUS);
    late.receive(STATUS).json()["state"].as_str().unwrap().to_owned()
}

#[track_caller]
fn id_of(message: &Message) -> usize {
    let answer = message.json();
    assert!(answer.get("error").is_none(), "{answer}");
    answer["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}
