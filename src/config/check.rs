//! Contradictions between settings that are each legal on their own.

use std::net::SocketAddr;

use intentd_core::topic::filters_overlap;

use super::read::Reader;
use super::{Broker, Config, Mqtt};

/// With a shared subscription the broker keeps an absent daemon's share of the utterances for this long at most.
const MAX_SHARED_SESSION: std::time::Duration = std::time::Duration::from_secs(300);

pub(super) fn contradictions(config: &Config, read: &mut Reader) {
    beyond_loopback("grpc.listen", config.grpc.listen, "TLS and client authentication", read);
    if let Some(mqtt) = &config.mqtt {
        if let Broker::Embedded(listen) = mqtt.broker {
            beyond_loopback("mqtt.embedded.listen", listen, "authentication", read);
        }
        shared_sessions(mqtt, read);
        loops(mqtt, &config.gateway, read);
    }
    same_port(config, read);
    let site = config.model.thresholds;
    if let (Some(recognized), Some(not_recognized)) = (site.recognized, site.not_recognized)
        && not_recognized > recognized
    {
        read.mistake(
            "model.not_recognized",
            format!("{not_recognized} is above model.recognized, {recognized}"),
        );
    }
}

fn beyond_loopback(key: &str, address: SocketAddr, lacks: &str, read: &mut Reader) {
    if !address.ip().is_loopback() {
        let message = format!(
            "{address} can be reached from other hosts, which needs {lacks}, and this version has none; \
             listen on 127.0.0.1 or [::1]"
        );
        read.mistake(key, message);
    }
}

fn shared_sessions(mqtt: &Mqtt, read: &mut Reader) {
    let shared = mqtt.routes.iter().any(|route| route.share.is_some());
    if shared && mqtt.session_expiry > MAX_SHARED_SESSION {
        read.mistake(
            "mqtt.session_expiry",
            "with a shared subscription 5min at most: the broker keeps an absent daemon's share for that long",
        );
    }
}

/// An output that matches an input would be understood as an utterance again, for ever.
fn loops(mqtt: &Mqtt, gateway: &str, read: &mut Reader) {
    let fixed = [crate::mqtt::status_topic(gateway), crate::mqtt::dead_letter_topic(gateway)];
    for (i, input) in mqtt.routes.iter().enumerate() {
        let filter = input.topics.subscription();
        for (j, output) in mqtt.routes.iter().enumerate() {
            if filters_overlap(&filter, &output.topics.publication()) {
                let message =
                    format!("its intents would match the subscription {filter} of mqtt.routes[{i}]: a loop");
                read.mistake(&format!("mqtt.routes[{j}].publish"), message);
            }
        }
        for topic in &fixed {
            if filters_overlap(&filter, topic) {
                let message = format!("matches the daemon's own topic {topic}: a loop");
                read.mistake(&format!("mqtt.routes[{i}].subscribe"), message);
            }
        }
    }
}

fn same_port(config: &Config, read: &mut Reader) {
    let embedded = config.mqtt.as_ref().and_then(|mqtt| match mqtt.broker {
        Broker::Embedded(listen) => Some(listen),
        Broker::Remote { .. } => None,
    });
    let listens = [
        ("grpc.listen", Some(config.grpc.listen)),
        ("mqtt.embedded.listen", embedded),
        ("http.listen", config.http),
    ];
    for (i, (key, address)) in listens.iter().enumerate() {
        let taken = |(_, other): &&(&str, Option<SocketAddr>)| {
            address.is_some_and(|address| address.port() != 0 && *other == Some(address))
        };
        if let Some((other, _)) = listens[..i].iter().find(taken) {
            read.mistake(key, format!("is the address of {other} as well"));
        }
    }
}
