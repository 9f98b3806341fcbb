//! Messages of every size: each is answered, or becomes a dead letter, or is kept back by the broker; none costs the
//! connection, and the next is answered at once.

use std::process::Command;
use std::time::{Duration, Instant};

use super::super::harness::{Daemon, Device, wait_for};
use super::super::soak::{millis, note, report, sized, times};
use super::{DEAD_LETTER, INTENT, UTTERANCE, broker, said, trio};

const MIB: usize = 1024 * 1024;

/// Largest payload that the daemon looks at.
const MAX_PAYLOAD: usize = 64 * 1024;

/// Largest packet that it takes from the broker under MQTT 5, and under 3.1.1, where it can't tell the broker.
const MAX_PACKET: usize = 256 * 1024;
const MAX_PACKET_V311: usize = 4 * MIB;

/// What a PUBLISH of 256 KiB has beside its payload: fixed header, topic, packet identifier, no properties.
const ENVELOPE: usize = 4 + 2 + UTTERANCE.len() + 2 + 1;

/// Within this the next is answered.
const NEXT: Duration = Duration::from_secs(1);

/// At 10 KiB is the limit that rumqttc has where it is told none.
const SIZES: [usize; 8] = [
    10_239,
    10_240,
    10_241,
    MAX_PAYLOAD,
    MAX_PAYLOAD + 1,
    MAX_PACKET - ENVELOPE,
    MAX_PACKET - ENVELOPE + 1,
    MIB,
];

#[test]
fn each_has_its_end_and_the_next_is_answered() {
    for (protocol, limit) in [("5", MAX_PACKET), ("3.1.1", MAX_PACKET_V311)] {
        let (mosquitto, daemon, mut device) = trio(&format!("protocol = \"{protocol}\"\n"));
        let mut next = times();
        for bytes in SIZES.into_iter().chain((protocol == "3.1.1").then_some(MAX_PACKET_V311 - ENVELOPE)) {
            device.publish(UTTERANCE, padded(bytes));
            if bytes <= MAX_PAYLOAD {
                assert_eq!(device.receive(INTENT).json()["id"], bytes.to_string());
            } else if bytes + ENVELOPE <= limit {
                let letter = device.receive(DEAD_LETTER).json();
                assert_eq!(letter["reason"], "too_long", "{protocol} {bytes} {letter}");
            }
            note(&mut next, answer_to_the_next(&mut device));
        }
        let letters = daemon.metric("intentd_mqtt_dead_letters_total{reason=\"too_long\"}");
        if protocol == "5" {
            let huge = sized(20, 200) * MIB;
            publish_zeros(mosquitto.port, huge);
            note(&mut next, answer_to_the_next(&mut device));
        }
        // mosquitto 2.0.11 forgets a byte when it counts, and hands over one more than it was allowed.
        let expected = if protocol == "5" { 2.0..=3.0 } else { 5.0..=5.0 };
        assert!(expected.contains(&letters), "{protocol}: {letters} dead letters");
        assert_eq!(daemon.metric("intentd_mqtt_connections_total"), 1.0, "{protocol}\n{}", daemon.log());
        let (median, longest) = (millis(&next, 0.5), millis(&next, 1.0));
        report(
            "F10",
            &format!(
                "MQTT {protocol}, {} sizes: no reconnect; the next answered after {median:.0} ms (median), {longest:.0} ms \
                 (longest)",
                next.len()
            ),
        );
    }
}

/// It would come again for ever. What helps is told, and does.
#[test]
fn above_the_limit_of_3_1_1_the_remedy_is_told() {
    let (mosquitto, mut daemon, mut device) = trio("protocol = \"3.1.1\"\n");
    device.publish(UTTERANCE, padded(MAX_PACKET_V311 + 1));
    device.publish(UTTERANCE, said("next"));
    wait_for("the remedy is told", || daemon.ready().is_err_and(|why| why.contains("set mqtt.protocol to")));
    assert_eq!(daemon.terminate(), Some(0));
    let _daemon = Daemon::start(&broker(mosquitto.port, "protocol = \"5\"\n"));
    assert_eq!(device.receive(INTENT).json()["id"], "next");
}

/// A good utterance of this size, by white space.
fn padded(bytes: usize) -> String {
    let utterance = said(&bytes.to_string());
    format!("{utterance}{}", " ".repeat(bytes - utterance.len()))
}

#[track_caller]
fn answer_to_the_next(device: &mut Device) -> Duration {
    let start = Instant::now();
    device.publish(UTTERANCE, said("next"));
    let answer = device.receive_within(NEXT, INTENT).unwrap_or_else(|| panic!("no answer within {NEXT:?}"));
    assert_eq!(answer.json()["id"], "next");
    start.elapsed()
}

/// Returns when the broker has acknowledged it.
fn publish_zeros(port: u16, bytes: usize) {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(bytes as u64).unwrap();
    let mut client = Command::new("mosquitto_pub");
    client.args(["-p", &port.to_string(), "-q", "1", "-t", UTTERANCE, "-f"]).arg(file.path());
    assert!(client.status().unwrap().success(), "the broker took no {bytes} bytes");
}
