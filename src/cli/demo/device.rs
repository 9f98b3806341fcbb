//! A device as one would stand in a room: it publishes an utterance and waits for its intent. It speaks MQTT 3.1.1,
//! which every broker knows.

use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Packet, Publish, QoS};
use tokio::time::{Instant, sleep, timeout_at};

use crate::cli::Failure;
use crate::config::{Broker, Codec, Mqtt};
use crate::credentials::Secret;
use crate::proto::ParseResponse;

/// The daemon connects, subscribes and says so within this time.
const READY_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Requests that wait for the event loop: two subscriptions, or one utterance.
const REQUESTS: usize = 8;

/// Stands for the site, the device and whatever else a route's topics name.
const NAME: &str = "demo";

pub(super) struct Device<'a> {
    client: AsyncClient,
    events: EventLoop,
    mqtt: &'a Mqtt,
    utterances: String,
    intents: String,
    broker: String,
}

/// Host and port of the broker.
pub(super) fn address(broker: &Broker) -> (String, u16) {
    match broker {
        Broker::Embedded(listen) => (listen.ip().to_string(), listen.port()),
        Broker::Remote { host, port, .. } => (host.clone(), *port),
    }
}

/// Where the device publishes its utterances, and where their intents come: the first route, every name filled in.
pub(super) fn topics(mqtt: &Mqtt) -> (String, String) {
    let topics = &mqtt.routes[0].topics;
    let fill = |filter: String| filter.replace('+', NAME);
    (fill(topics.subscription()), fill(topics.publication()))
}

/// An utterance in the form of the first route.
pub(super) fn payload(mqtt: &Mqtt, id: &str, text: &str) -> String {
    match mqtt.routes[0].codec {
        Codec::Json => serde_json::json!({ "id": id, "text": text }).to_string(),
        Codec::Text => text.to_owned(),
    }
}

impl<'a> Device<'a> {
    /// Connects, and waits until the daemon's status says that it is subscribed: what came earlier would be lost.
    pub(super) async fn connect(mqtt: &'a Mqtt, status_topic: &str) -> Result<Self, Failure> {
        let (host, port) = address(&mqtt.broker);
        // A session of its own for each run, gone with the connection.
        let mut options = MqttOptions::new(format!("intentd-demo-{}", std::process::id()), &host, port);
        options.set_keep_alive(KEEP_ALIVE);
        if let Some(username) = &mqtt.username {
            let password =
                mqtt.password_file.as_deref().map(Secret::read).transpose().map_err(Failure::config)?;
            options.set_credentials(username, password.as_ref().map_or("", Secret::expose));
        }
        let (client, mut events) = AsyncClient::new(options, REQUESTS);
        // Else an utterance waits up to 40 ms for the acknowledgement of the packet before it.
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        let (utterances, intents) = topics(mqtt);
        let mut device = Self { client, events, mqtt, utterances, intents, broker: format!("{host}:{port}") };
        device.wait_for_daemon(status_topic).await?;
        Ok(device)
    }

    async fn wait_for_daemon(&mut self, status_topic: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_WITHIN;
        let mut last = "nothing was heard of it".to_owned();
        loop {
            match timeout_at(deadline, self.events.poll()).await {
                Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                    self.client.subscribe(status_topic, QoS::AtLeastOnce).await.map_err(Failure::software)?;
                    self.client
                        .subscribe(&self.intents, QoS::AtLeastOnce)
                        .await
                        .map_err(Failure::software)?;
                }
                Ok(Ok(Event::Incoming(Packet::Publish(publish)))) if publish.topic == status_topic => {
                    if is_online(&publish) {
                        return Ok(());
                    }
                    "the daemon has not subscribed at the broker".clone_into(&mut last);
                }
                Ok(Ok(_)) => {}
                // The broker may still be starting.
                Ok(Err(error)) => {
                    last = error.to_string();
                    sleep(BETWEEN_ATTEMPTS).await;
                }
                Err(_) => return Err(self.unavailable(&last)),
            }
        }
    }

    /// Publishes an utterance and waits for its intent.
    pub(super) async fn ask(&mut self, id: &str, text: &str) -> Result<ParseResponse, Failure> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        let payload = payload(self.mqtt, id, text);
        let sent = self.client.publish(&self.utterances, QoS::AtLeastOnce, false, payload).await;
        sent.map_err(Failure::software)?;
        loop {
            let event = match timeout_at(deadline, self.events.poll()).await {
                Ok(Ok(event)) => event,
                Ok(Err(error)) => return Err(self.unavailable(&error.to_string())),
                Err(_) => return Err(self.unavailable(&format!("no intent came for \"{text}\""))),
            };
            if let Event::Incoming(Packet::Publish(publish)) = event
                && publish.topic == self.intents
                && let Ok(answer) = serde_json::from_slice::<ParseResponse>(&publish.payload)
                && (answer.id == id || answer.text == text)
            {
                return Ok(answer);
            }
        }
    }

    /// Says goodbye to the broker.
    pub(super) async fn disconnect(mut self) {
        let deadline = Instant::now() + BETWEEN_ATTEMPTS;
        if self.client.disconnect().await.is_ok() {
            while let Ok(Ok(_)) = timeout_at(deadline, self.events.poll()).await {}
        }
    }

    fn unavailable(&self, reason: &str) -> Failure {
        Failure::unavailable(format!(
            "the demo's device at the broker {}: {reason}; see mqtt.broker, or go without it: --set mqtt.broker=off",
            self.broker
        ))
    }
}

fn is_online(publish: &Publish) -> bool {
    let status: Option<serde_json::Value> = serde_json::from_slice(&publish.payload).ok();
    status.is_some_and(|status| status["state"] == "online")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    #[test]
    fn topics_hold_no_wildcard() {
        let config = Config::load(&Sources::default()).unwrap();
        let (utterances, intents) = topics(&config.mqtt.unwrap());
        assert_eq!(utterances, "intentd/demo/demo/utterance");
        assert_eq!(intents, "intentd/demo/demo/intent");
    }
}
