//! The broker inside the daemon.

use super::super::harness::{Daemon, Device, wait_for};
use super::{INTENT, JSON_ROUTE, STATUS, TEXT_ROUTE, UTTERANCE, said};

#[test]
fn both_routes_answer_over_the_embedded_broker() {
    let mut daemon = Daemon::start(&format!("[mqtt]\n{JSON_ROUTE}{}", TEXT_ROUTE.replace("küche", "tuer")));
    let mut device = Device::v311(daemon.mqtt);
    device.subscribe(INTENT);
    device.publish(UTTERANCE, said("1"));
    assert_eq!(device.receive(INTENT).json()["id"], "1");
    device.subscribe(STATUS);
    assert_eq!(device.receive(STATUS).json()["state"], "online");
    device.subscribe("tuer/+/gemeint");
    device.publish("tuer/taster/gesagt", "turn on the kitchen lights");
    assert_eq!(device.receive("tuer/taster/gemeint").json()["context"]["device"], "taster");
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn a_thousand_utterances_go_through_it() {
    let daemon = Daemon::start("");
    let mut device = Device::v311(daemon.mqtt);
    device.subscribe(INTENT);
    super::say(&mut device, 0..1000);
    super::collect(&mut device, 1000, super::super::harness::PATIENCE);
}

#[test]
fn a_topic_that_ends_its_router_ends_it_for_a_moment_only() {
    let daemon = Daemon::start("");
    let mut stranger = Device::v311(daemon.mqtt);
    stranger.subscribe("a/b");
    stranger.publish("ü/b", "x");
    wait_for("its end is seen", || daemon.log().contains("the embedded broker starts anew"));
    drop(stranger);
    daemon.wait_ready();
    let mut device = Device::v311(daemon.mqtt);
    device.subscribe(INTENT);
    device.publish(UTTERANCE, said("after"));
    assert_eq!(device.receive(INTENT).json()["id"], "after");
}
