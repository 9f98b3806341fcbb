//! The graceful stop: answer what is in flight, say goodbye, disconnect. What is not taken any more stays with the
//! broker, unacknowledged, for the next start or, with a shared subscription, for the other daemons.

use std::time::Duration;

use super::connection::{Event, Request};
use super::{Link, Phase, Step, Token, next_event};
use crate::mqtt::outbound::State;

/// For the answers in flight. systemd and the daemon's own limit come later.
const DRAIN: Duration = Duration::from_secs(6);

/// For the PUBACK of the last status, and for the DISCONNECT.
const GOODBYE: Duration = Duration::from_secs(1);

impl Link {
    pub(super) async fn drain(&mut self, tick: &mut tokio::time::Interval) {
        self.rejoin(tick).await;
        if !matches!(self.phase, Phase::Subscribed { .. } | Phase::Probing | Phase::Refused { .. }) {
            tracing::info!(in_flight = self.delivery.in_flight(), "stopped without a broker");
            return;
        }
        self.phase = Phase::Draining;
        self.publish_status(State::Draining);
        let unsubscribing = self.leave_groups();
        self.finish(tick, unsubscribing).await;
        tracing::info!(left = self.delivery.in_flight(), "answered what was in flight");
        self.say_goodbye().await;
    }

    /// The retained status must not go on saying that we are online.
    async fn rejoin(&mut self, tick: &mut tokio::time::Interval) {
        let end = tokio::time::Instant::now() + GOODBYE;
        while self.rejoining {
            let Ok(step) = tokio::time::timeout_at(end, self.select(tick)).await else { return };
            self.apply(step);
        }
    }

    /// Before anything else, so that the broker gives no more of the group's utterances to us.
    fn leave_groups(&mut self) -> usize {
        let Some(connection) = &mut self.connection else { return 0 };
        let shared = self.subscriptions.iter().filter(|subscription| subscription.shared);
        shared.map(|s| connection.request(Request::Unsubscribe(s.filter.clone()))).count()
    }

    /// Takes what the broker gave us before it read the UNSUBSCRIBE, but nothing else that is new.
    async fn finish(&mut self, tick: &mut tokio::time::Interval, mut unsubscribing: usize) {
        let end = tokio::time::Instant::now() + DRAIN;
        while (self.delivery.in_flight() > 0 || unsubscribing > 0) && self.connection.is_some() {
            self.show();
            let Ok(step) = tokio::time::timeout_at(end, self.select(tick)).await else { return };
            match step {
                Step::Connection(Event::Unsubscribed) => unsubscribing = unsubscribing.saturating_sub(1),
                Step::Connection(Event::Message(_)) if unsubscribing == 0 => {}
                step => self.apply(step),
            }
        }
    }

    async fn say_goodbye(&mut self) {
        self.publish_status(State::Offline);
        let taken = |event: &Event<Token>| {
            matches!(event, Event::Published { token: Token::Status(State::Offline), .. })
        };
        self.wait_for(taken).await;
        if let Some(connection) = &mut self.connection {
            connection.request(Request::Disconnect);
        }
        // Until the broker has closed: to close with something unread could take the DISCONNECT with it.
        self.wait_for(|event| matches!(event, Event::Closed(_))).await;
    }

    async fn wait_for(&mut self, is_it: impl Fn(&Event<Token>) -> bool) {
        let end = tokio::time::Instant::now() + GOODBYE;
        while let Ok(event) = tokio::time::timeout_at(end, next_event(&mut self.connection)).await {
            if is_it(&event) || matches!(event, Event::Closed(_)) {
                return;
            }
        }
    }
}
