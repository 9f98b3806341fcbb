//! Contradictions between settings that are each legal on their own.

use std::net::SocketAddr;

use intentd_core::topic::filters_overlap;

use super::read::Reader;
use super::{Broker, Config, Grpc, Mqtt, Protocol};
use crate::grpc::Access;
use crate::tls;

/// With a shared subscription the broker keeps an absent daemon's share of the utterances for this long at most.
const MAX_SHARED_SESSION: std::time::Duration = std::time::Duration::from_secs(300);

pub(super) fn contradictions(config: &Config, read: &mut Reader) {
    grpc(&config.grpc, read);
    if let Some(mqtt) = &config.mqtt {
        if let Broker::Embedded(listen) = mqtt.broker {
            embedded(listen, read);
        }
        if let Broker::Remote { tls: Some(files), .. } = &mqtt.broker
            && let Err(mistake) = tls::client(files, &tls::BROKER)
        {
            read.mistake(&mistake.key, mistake.message);
        }
        shared_sessions(mqtt, read);
        probe(mqtt, read);
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

/// Beyond this machine nobody is let in who has not shown who they are, and nothing is sent in plain text.
fn grpc(grpc: &Grpc, read: &mut Reader) {
    let asks = grpc.tokens_file.is_some() || grpc.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    if !grpc.listen.ip().is_loopback() && (grpc.tls.is_none() || !asks) {
        let message = format!(
            "{} can be reached from other hosts; set grpc.tls.cert and grpc.tls.key, and grpc.tls.client_ca (client \
             certificates) or grpc.tokens_file (tokens), as docs/security.md shows, or listen on 127.0.0.1 or [::1]",
            grpc.listen
        );
        read.mistake("grpc.listen", message);
    }
    if let Err(mistake) = Access::open(grpc) {
        read.mistake(&mistake.key, mistake.message);
    }
}

fn embedded(listen: SocketAddr, read: &mut Reader) {
    if !listen.ip().is_loopback() {
        let message = format!(
            "{listen} can be reached from other hosts, and the embedded broker has no authentication; listen on \
             127.0.0.1 or [::1], or use a broker of your own (mqtt.broker)"
        );
        read.mistake("mqtt.embedded.listen", message);
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

fn probe(mqtt: &Mqtt, read: &mut Reader) {
    if mqtt.probe && mqtt.protocol == Protocol::V311 {
        read.mistake(
            "mqtt.probe",
            "needs MQTT 5: a broker of MQTT 3.1.1, such as the embedded one, acknowledges a publication that it forbids \
             like any other, so a probe that does not come back would prove nothing; set mqtt.probe = false, or \
             mqtt.protocol = \"5\" and mqtt.broker to a broker that speaks it",
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
