//! The MQTT door: utterances in, intents out, each acknowledged after its own intent.
//!
//! [`intentd_core::delivery`] decides; `link` performs it on a connection of rumqttc, `inbound` makes arrivals of
//! messages with the help of a `codec`, and `outbound` writes what goes back. `embedded` is the broker for those who
//! have none.

pub mod codec;
pub mod embedded;
mod inbound;
mod link;
mod outbound;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Mqtt;
use crate::health::Health;
use crate::inference::Inference;
use crate::telemetry::Metrics;

pub use outbound::{dead_letter_topic, status_topic};

/// Most MQTT utterances that wait for inference at a time: admission needs as many places for them.
pub fn places(config: &Mqtt) -> usize {
    intentd_core::delivery::Delivery::<()>::new(config.receive_maximum).places()
}

/// Opens the door. It connects, and connects again, until `stop` turns true; then it answers what is in flight,
/// says goodbye, and its task ends.
pub fn start(
    config: &Mqtt,
    gateway: &str,
    inference: Inference,
    metrics: Metrics,
    health: Health,
    stop: watch::Receiver<bool>,
) -> JoinHandle<()> {
    if config.password_file.is_some() && config.broker.is_overheard() {
        tracing::warn!(
            "the broker's password and all utterances go over the network in plain text; use mqtts://"
        );
    }
    let link = link::Link::new(config, gateway, inference, metrics, health);
    // Before its task turns for the first time the door isn't ready.
    link.show();
    tokio::spawn(link.run(stop))
}
