//! What recorded lines must show, whatever happened on them.

use std::collections::{HashMap, HashSet, VecDeque};

use super::super::harness::proxy::{PUBACK, PUBLISH, Packet, SUBSCRIBE, Way};

/// On every connection it subscribed before it published. An utterance, known by its id, is acknowledged on the connection
/// that brought it, in the order of receipt, and only after the broker has acknowledged its intent or its dead letter,
/// there or on an earlier connection.
#[track_caller]
pub(super) fn check(packets: &[Packet]) {
    let mut subscribed = HashSet::new();
    let mut received: HashMap<usize, VecDeque<(u16, &str)>> = HashMap::new();
    let (mut published, mut answered) = (HashMap::new(), HashSet::new());
    for packet in packets {
        let place = (packet.line, packet.packet_id);
        match (packet.way, packet.kind) {
            (Way::ToBroker, SUBSCRIBE) => _ = subscribed.insert(packet.line),
            (Way::ToBroker, PUBLISH) => {
                assert!(subscribed.contains(&packet.line), "published before it subscribed: {packet:?}");
                published.insert(place, packet.utterance.as_str());
            }
            (Way::FromBroker, PUBACK) if !packet.refused => {
                answered.extend(published.remove(&place).filter(|utterance| !utterance.is_empty()));
            }
            (Way::FromBroker, PUBLISH) => {
                let arrival = (packet.packet_id, packet.utterance.as_str());
                received.entry(packet.line).or_default().push_back(arrival);
            }
            (Way::ToBroker, PUBACK) => {
                let next = received.get_mut(&packet.line).and_then(VecDeque::pop_front);
                let Some((id, utterance)) = next else { panic!("acknowledges what never came: {packet:?}") };
                assert_eq!(id, packet.packet_id, "not in the order of receipt: {packet:?}");
                assert!(answered.contains(utterance), "{utterance} was acknowledged before its answer was");
            }
            _ => {}
        }
    }
}

/// The answers on each topic, taken by the first time that each was published, stand in the order of their ids.
#[track_caller]
pub(super) fn check_order(packets: &[Packet], topic: &str) {
    let mut seen = HashSet::new();
    let answers = packets.iter().filter(|p| p.way == Way::ToBroker && p.kind == PUBLISH && p.topic == topic);
    let first: Vec<usize> = answers
        .filter(|packet| seen.insert(packet.utterance.as_str()))
        .map(|packet| packet.utterance.parse().unwrap())
        .collect();
    assert!(first.is_sorted(), "{topic}: {first:?}");
}
