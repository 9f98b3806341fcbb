//! Over MQTT 5 with QoS 1: a device that says utterances and hears intents, through the one broker that the daemon and
//! the echo share. Correlation Data, which both send back, tells which intent answers which utterance.

use std::time::Duration;

use intentd::proto::Timing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{NetworkOptions, Outgoing};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Result;
use crate::meter::{Answer, End, Way};

/// Requests that rumqttc may hold before it has written them: more than any load has under way.
pub(crate) const REQUESTS: usize = 4096;

/// Publishes without a PUBACK at a time. Above the broker's own limit, which therefore holds.
const PUBLISHES: u16 = 2048;

const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A device in the topics below `root`.
pub(crate) struct Device {
    client: AsyncClient,
    topic: String,
    intents: mpsc::UnboundedReceiver<Result<Publish>>,
    poll: JoinHandle<()>,
}

impl Device {
    /// Connects, and returns when it is subscribed.
    pub(crate) async fn connect(port: u16, root: &str) -> Result<Self> {
        let (client, mut events) = client(port, &format!("device-{root}"));
        client.subscribe(format!("{root}/home/kitchen/intent"), QoS::AtLeastOnce).await?;
        subscribed(&mut events).await?;
        // Not bounded here, but by the utterances under way, which have one intent each.
        let (sender, intents) = mpsc::unbounded_channel();
        let poll = tokio::spawn(poll(events, sender));
        Ok(Self { client, topic: format!("{root}/home/kitchen/utterance"), intents, poll })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.poll.abort();
    }
}

impl Way for Device {
    async fn send(&mut self, number: u64, text: &str) -> Result<()> {
        let payload = serde_json::json!({ "id": format!("{number:08}"), "text": text }).to_string();
        let properties = PublishProperties {
            correlation_data: Some(number.to_be_bytes().to_vec().into()),
            ..PublishProperties::default()
        };
        let topic = self.topic.clone();
        Ok(self.client.publish_with_properties(topic, QoS::AtLeastOnce, false, payload, properties).await?)
    }

    async fn receive(&mut self) -> Result<Answer> {
        let intent = self.intents.recv().await.ok_or("the device's task ended")??;
        let correlation = intent.properties.and_then(|properties| properties.correlation_data);
        let number = correlation.and_then(|data| data.as_ref().try_into().ok()).map(u64::from_be_bytes);
        let Payload { timing, error } = serde_json::from_slice(&intent.payload)?;
        let end = if error.is_some() { End::Failed } else { End::Answered(timing) };
        Ok(Answer { number: number.ok_or("an intent came without its number")?, end })
    }
}

/// What is looked at in an intent.
#[derive(Deserialize)]
struct Payload {
    timing: Option<Timing>,
    error: Option<serde_json::Value>,
}

/// A task of its own, since to poll is not cancel-safe.
async fn poll(mut events: EventLoop, intents: mpsc::UnboundedSender<Result<Publish>>) {
    loop {
        let sent = match events.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => intents.send(Ok(publish)),
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => continue,
            Err(error) => {
                let _ = intents.send(Err(error.into()));
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// A client of the broker at this port, which connects when it is polled.
pub(crate) fn client(port: u16, id: &str) -> (AsyncClient, EventLoop) {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let mut options = MqttOptions::new(id, "127.0.0.1", port);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_start(true)
        .set_outgoing_inflight_upper_limit(PUBLISHES)
        .set_network_options(network);
    AsyncClient::new(options, REQUESTS)
}

/// Polls until the broker has granted the one subscription.
pub(crate) async fn subscribed(events: &mut EventLoop) -> Result<()> {
    while !matches!(events.poll().await?, Event::Incoming(Packet::SubAck(_))) {}
    Ok(())
}
