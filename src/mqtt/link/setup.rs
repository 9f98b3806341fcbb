//! The configuration in the link's own words.

use intentd_core::ModelRef;

use super::connection::{Publish, Settings, Subscription};
use super::probe::{self, Probe};
use crate::config::{Broker, Mqtt};
use crate::mqtt::outbound::{self, State};

/// rumqttd sends no PUBACK while 100 of its own publishes wait for theirs, and ours wait for those of the answers:
/// with QoS 1 towards it both would wait for ever. It keeps nothing beyond this process anyway.
pub(super) fn answer_qos(config: &Mqtt) -> u8 {
    match config.broker {
        Broker::Embedded(_) => 0,
        Broker::Remote { .. } => 1,
    }
}

pub(super) fn settings(config: &Mqtt, status_topic: &str, model: &ModelRef) -> Settings {
    let (host, port, tls) = match &config.broker {
        Broker::Embedded(listen) => (listen.ip().to_string(), listen.port(), None),
        Broker::Remote { host, port, tls } => (host.clone(), *port, tls.clone()),
    };
    Settings {
        protocol: config.protocol,
        host,
        port,
        tls,
        client_id: config.client_id.clone(),
        login: config.username.clone().map(|user| (user, config.password_file.clone())),
        keep_alive: config.keep_alive,
        session_expiry: config.session_expiry,
        receive_maximum: config.receive_maximum,
        will: status_publish(status_topic, State::Offline, model),
    }
}

/// One filter each, however many routes share it.
pub(super) fn subscriptions(config: &Mqtt) -> Vec<Subscription> {
    let mut subscriptions: Vec<Subscription> = Vec::new();
    for route in &config.routes {
        let topic = route.topics.subscription();
        let filter = match &route.share {
            Some(group) => format!("$share/{group}/{topic}"),
            None => topic.to_string(),
        };
        match subscriptions.iter_mut().find(|known| known.filter == filter) {
            Some(known) => known.qos = known.qos.max(route.qos),
            None => {
                let shared = route.share.is_some();
                // MQTT 5 forbids No Local with a shared subscription (3.8.3.1).
                subscriptions.push(Subscription { filter, qos: route.qos, shared, no_local: !shared });
            }
        }
    }
    subscriptions
}

/// The probe where it is asked for. A route whose subscription is a plain topic has no place for it.
pub(super) fn probe(config: &Mqtt) -> Option<Probe> {
    let mut topics: Vec<(String, String)> = Vec::new();
    for route in &config.routes {
        if let Some(topic) = route.topics.topic_with(probe::NAME)
            && topics.iter().all(|(known, _)| *known != topic)
        {
            topics.push((topic, route.topics.subscription()));
        }
    }
    (config.probe && !topics.is_empty()).then(|| Probe::new(topics.into_iter()))
}

pub(super) fn status_publish(topic: &str, state: State, model: &ModelRef) -> Publish {
    let payload = outbound::status(state, model);
    Publish { topic: topic.to_owned(), payload, qos: 1, retain: true, ..Default::default() }
}
