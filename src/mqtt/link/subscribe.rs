//! From CONNACK to the moment at which utterances arrive: subscribe, hear what the broker grants, and, where
//! `mqtt.probe` asks for it, see that it delivers.

use std::time::Instant;

use super::connection::{self, Limits, Message};
use super::probe::Verdict;
use super::{Link, Phase, Token};
use crate::mqtt::outbound::State;

impl Link {
    pub(super) fn on_connected(&mut self, now: Instant, session_present: bool, limits: Limits) {
        tracing::info!(session_present, window = limits.window, "connected to the broker");
        self.metrics.mqtt_connections.inc();
        self.limits = Some(limits);
        // Before any publish, so that what the broker holds back for us comes at once.
        self.subscribe(now);
        let actions = self.delivery.on_connected(now, session_present, limits.window);
        self.perform(now, actions);
    }

    /// On every connection: the broker may have lost the subscription with its session, and to repeat it is harmless.
    pub(super) fn subscribe(&mut self, now: Instant) {
        self.phase = Phase::Subscribing { since: now };
        let mut subscriptions = self.subscriptions.clone();
        if let Some(probe) = &mut self.probe {
            probe.reset();
            subscriptions.extend(probe.subscriptions());
        }
        if let Some(connection) = &mut self.connection {
            connection.request(connection::Request::Subscribe(subscriptions));
        }
    }

    /// The routes' subscriptions come first in the request, those of the probes behind them.
    pub(super) fn on_subscribed(&mut self, now: Instant, refused: Vec<(usize, String)>) {
        if !matches!(self.phase, Phase::Subscribing { .. }) {
            return;
        }
        for (index, reason) in refused {
            if let Some(subscription) = self.subscriptions.get(index) {
                let filter = &subscription.filter;
                return self.refuse(now, format!("the broker refused the subscription {filter}: {reason}"));
            }
            if let Some(probe) = &mut self.probe {
                probe.cannot(index - self.subscriptions.len(), &reason);
            }
        }
        let (Some(probe), Some(connection)) = (&mut self.probe, &mut self.connection) else {
            return self.serve(now);
        };
        for (index, publish) in probe.start(now) {
            connection.publish(publish, Token::Probe(index));
        }
        self.phase = Phase::Probing;
        self.judge_probe(now);
    }

    /// Not ready, and tried again, longer after each time.
    fn refuse(&mut self, now: Instant, why: String) {
        let wait = self.backoff.next(fastrand::f64());
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(reason = why, retry_in_ms = millis, "not subscribed");
        self.phase = Phase::Refused { until: now + wait, why };
    }

    fn serve(&mut self, now: Instant) {
        self.phase = Phase::Subscribed { since: now };
        self.rejoining = false;
        self.publish_status(State::Online);
        tracing::info!("subscribed");
    }

    pub(super) fn on_probe_published(&mut self, now: Instant, index: usize, refused: Option<u8>) {
        if let Some(probe) = &mut self.probe {
            probe.on_published(now, index, refused);
        }
        self.judge_probe(now);
    }

    pub(super) fn on_probe_message(&mut self, now: Instant, message: &Message) {
        if let Some(probe) = &mut self.probe {
            probe.on_message(now, message);
            self.judge_probe(now);
        }
    }

    /// A probe that comes back after it was given up counts as well.
    pub(super) fn judge_probe(&mut self, now: Instant) {
        let Some(probe) = &self.probe else { return };
        match probe.verdict(now) {
            Verdict::Delivers if matches!(self.phase, Phase::Probing | Phase::Refused { .. }) => {
                self.serve(now)
            }
            Verdict::Silent(why) if self.phase == Phase::Probing => self.refuse(now, why),
            _ => {}
        }
    }
}
