//! A device: an MQTT client with a thread and a session of its own, so that it misses nothing while its broker
//! restarts. MQTT 5 for mosquitto, 3.1.1 for the embedded broker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rumqttc::v5;
use rumqttc::v5::mqttbytes::QoS as QoS5;
use rumqttc::v5::mqttbytes::v5::PublishProperties;

use super::{PATIENCE, wait_for};

/// Packets up to this size.
const MAX_PACKET: u32 = 1024 * 1024;

/// What a device received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) retain: bool,
    pub(crate) properties: PublishProperties,
}

impl Message {
    /// The payload as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A connected device.
pub(crate) struct Device {
    client: Client,
    messages: Receiver<Message>,
    kept: VecDeque<Message>,
    sent: usize,
    counts: Arc<Counts>,
}

enum Client {
    V5(v5::Client),
    V311(rumqttc::Client),
}

#[derive(Default)]
struct Counts {
    acknowledged: AtomicUsize,
    subscribed: AtomicUsize,
}

impl Device {
    /// Connects with MQTT 5.
    pub(crate) fn v5(port: u16) -> Self {
        let id = format!("device-{}", uuid::Uuid::new_v4());
        let mut options = v5::MqttOptions::new(id, "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(30)).set_clean_start(false);
        options.set_session_expiry_interval(Some(3600)).set_max_packet_size(Some(MAX_PACKET));
        let (client, mut connection) = v5::Client::new(options, 2048);
        let (counts, sender, messages) = parts();
        let shared = Arc::clone(&counts);
        std::thread::spawn(move || {
            for event in connection.iter() {
                let Ok(event) = event else {
                    // The broker may come back; rumqttc connects again.
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                };
                if !shared.note_v5(event, &sender) {
                    return;
                }
            }
        });
        Self { client: Client::V5(client), messages, kept: VecDeque::new(), sent: 0, counts }
    }

    /// Connects with MQTT 3.1.1.
    pub(crate) fn v311(port: u16) -> Self {
        let id = format!("device-{}", uuid::Uuid::new_v4());
        let mut options = rumqttc::MqttOptions::new(id, "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(30)).set_clean_session(false);
        options.set_max_packet_size(MAX_PACKET as usize, MAX_PACKET as usize);
        let (client, mut connection) = rumqttc::Client::new(options, 2048);
        let (counts, sender, messages) = parts();
        let shared = Arc::clone(&counts);
        std::thread::spawn(move || {
            for event in connection.iter() {
                let Ok(event) = event else {
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                };
                if !shared.note_v311(event, &sender) {
                    return;
                }
            }
        });
        Self { client: Client::V311(client), messages, kept: VecDeque::new(), sent: 0, counts }
    }

    /// Subscribes with QoS 1 and waits for the SUBACK.
    #[track_caller]
    pub(crate) fn subscribe(&self, filter: &str) {
        let before = self.counts.subscribed.load(Ordering::SeqCst);
        match &self.client {
            Client::V5(client) => client.subscribe(filter, QoS5::AtLeastOnce).unwrap(),
            Client::V311(client) => client.subscribe(filter, rumqttc::QoS::AtLeastOnce).unwrap(),
        }
        wait_for("SUBACK", || self.counts.subscribed.load(Ordering::SeqCst) > before);
    }

    /// Publishes with QoS 1, not retained.
    pub(crate) fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.sent += 1;
        match &self.client {
            Client::V5(client) => client.publish(topic, QoS5::AtLeastOnce, false, payload.into()).unwrap(),
            Client::V311(client) => {
                client.publish(topic, rumqttc::QoS::AtLeastOnce, false, payload.into()).unwrap();
            }
        }
    }

    /// Publishes with QoS 1, retained.
    pub(crate) fn publish_retained(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.sent += 1;
        match &self.client {
            Client::V5(client) => client.publish(topic, QoS5::AtLeastOnce, true, payload.into()).unwrap(),
            Client::V311(client) => {
                client.publish(topic, rumqttc::QoS::AtLeastOnce, true, payload.into()).unwrap()
            }
        }
    }

    /// Publishes with QoS 0.
    pub(crate) fn publish_qos0(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        match &self.client {
            Client::V5(client) => client.publish(topic, QoS5::AtMostOnce, false, payload.into()).unwrap(),
            Client::V311(client) => {
                client.publish(topic, rumqttc::QoS::AtMostOnce, false, payload.into()).unwrap()
            }
        }
    }

    /// Publishes with QoS 1 and properties of MQTT 5.
    #[track_caller]
    pub(crate) fn publish_with(
        &mut self,
        topic: &str,
        payload: impl Into<Vec<u8>>,
        properties: PublishProperties,
    ) {
        self.sent += 1;
        let Client::V5(client) = &self.client else { panic!("MQTT 3.1.1 has no properties") };
        client.publish_with_properties(topic, QoS5::AtLeastOnce, false, payload.into(), properties).unwrap();
    }

    /// Waits until the broker has acknowledged everything published so far.
    #[track_caller]
    pub(crate) fn wait_acknowledged(&self) {
        wait_for("PUBACKs of the device's publishes", || {
            self.counts.acknowledged.load(Ordering::SeqCst) >= self.sent
        });
    }

    /// The next message on a topic; others are kept for later.
    #[track_caller]
    pub(crate) fn receive(&mut self, topic: &str) -> Message {
        self.receive_within(PATIENCE, topic)
            .unwrap_or_else(|| panic!("nothing on {topic} within {PATIENCE:?}"))
    }

    /// The same, none after `limit`.
    pub(crate) fn receive_within(&mut self, limit: Duration, topic: &str) -> Option<Message> {
        if let Some(at) = self.kept.iter().position(|message| message.topic == topic) {
            return self.kept.remove(at);
        }
        let end = Instant::now() + limit;
        loop {
            let message = self.messages.recv_timeout(end.saturating_duration_since(Instant::now())).ok()?;
            if message.topic == topic {
                return Some(message);
            }
            self.kept.push_back(message);
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Fails where the broker is gone.
        let _ = match &self.client {
            Client::V5(client) => client.try_disconnect().is_ok(),
            Client::V311(client) => client.try_disconnect().is_ok(),
        };
    }
}

fn parts() -> (Arc<Counts>, Sender<Message>, Receiver<Message>) {
    let (sender, messages) = channel();
    (Arc::default(), sender, messages)
}

impl Counts {
    /// Whether anybody still listens.
    fn note_v5(&self, event: v5::Event, sender: &Sender<Message>) -> bool {
        use v5::Incoming;
        match event {
            v5::Event::Incoming(Incoming::Publish(packet)) => {
                let message = Message {
                    topic: String::from_utf8(packet.topic.to_vec()).unwrap(),
                    payload: packet.payload.to_vec(),
                    retain: packet.retain,
                    properties: packet.properties.unwrap_or_default(),
                };
                return sender.send(message).is_ok();
            }
            v5::Event::Incoming(Incoming::PubAck(_)) => self.acknowledged.fetch_add(1, Ordering::SeqCst),
            v5::Event::Incoming(Incoming::SubAck(_)) => self.subscribed.fetch_add(1, Ordering::SeqCst),
            v5::Event::Outgoing(rumqttc::Outgoing::Disconnect) => return false,
            _ => 0,
        };
        true
    }

    fn note_v311(&self, event: rumqttc::Event, sender: &Sender<Message>) -> bool {
        use rumqttc::Incoming;
        match event {
            rumqttc::Event::Incoming(Incoming::Publish(packet)) => {
                let message = Message {
                    topic: packet.topic,
                    payload: packet.payload.to_vec(),
                    retain: packet.retain,
                    ..Message::default()
                };
                return sender.send(message).is_ok();
            }
            rumqttc::Event::Incoming(Incoming::PubAck(_)) => self.acknowledged.fetch_add(1, Ordering::SeqCst),
            rumqttc::Event::Incoming(Incoming::SubAck(_)) => self.subscribed.fetch_add(1, Ordering::SeqCst),
            rumqttc::Event::Outgoing(rumqttc::Outgoing::Disconnect) => return false,
            _ => 0,
        };
        true
    }
}
