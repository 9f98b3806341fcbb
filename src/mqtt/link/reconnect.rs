//! Connections begin and end: the broker's doing, ours, or a rival's. Each failure makes the next wait longer.

use std::time::Instant;

use intentd_core::delivery::Backoff;

use super::connection::{self, Closed, Connection, End};
use super::{Link, Phase, TICK, explain};

/// A publish without a PUBACK for so many keep-alives means that the broker answers pings and nothing else.
const SILENT_KEEP_ALIVES: u32 = 3;

impl Link {
    /// `why` is what ended the last connection; it stays the reason until this one stands.
    pub(super) fn connect(&mut self, now: Instant, why: String) {
        self.phase = Phase::Connecting { why };
        match Connection::open(&self.settings) {
            Ok(connection) => self.connection = Some(connection),
            Err(mistake) => self.on_closed(now, Closed::because(mistake.to_string())),
        }
    }

    /// A broker that answers pings but nothing else would hold the window, or the subscription, for ever.
    pub(super) fn check_silence(&mut self, now: Instant) {
        let asked = match self.phase {
            Phase::Subscribing { since } => Some(since),
            _ => self.connection.as_ref().and_then(Connection::oldest_publish),
        };
        let limit = SILENT_KEEP_ALIVES * self.settings.keep_alive;
        if asked.is_some_and(|asked| now.saturating_duration_since(asked) > limit) {
            let reason = "the broker acknowledges neither subscriptions nor publications".to_owned();
            self.on_closed(now, Closed::because(reason));
        }
    }

    /// The broker sent more than there is place for. It sends the rest again on a new connection, and all before it is
    /// answered by now. With a DISCONNECT, so that the last will stays where it is.
    pub(super) fn leave(&mut self, now: Instant) {
        self.delivery.on_disconnected();
        if let Some(connection) = &mut self.connection {
            connection.request(connection::Request::Disconnect);
        }
        self.rejoining = true;
        self.phase = Phase::Leaving { until: now + TICK };
    }

    /// Not a failure, so it doesn't wait longer each time.
    pub(super) fn connect_again(&mut self, now: Instant) {
        self.connection = None;
        self.limits = None;
        let why = "connecting again, for what was left to the broker".to_owned();
        self.phase = Phase::Waiting { until: now + Backoff::FLOOR, why };
    }

    /// The next connection is a new client.
    pub(super) fn on_closed(&mut self, now: Instant, closed: Closed) {
        self.connection = None;
        self.limits = None;
        self.rejoining = false;
        self.delivery.on_disconnected();
        let stood = match self.phase {
            Phase::Subscribed { since } => Some(now.saturating_duration_since(since)),
            _ => None,
        };
        let (wait, why) = match (self.takeover.on_closed(closed.end, stood, fastrand::f64()), &self.phase) {
            (Some(wait), _) => (wait, self.takeover.reason(&self.settings.client_id)),
            (None, Phase::Connecting { .. }) if closed.end == End::Silent => {
                (self.backoff.next(fastrand::f64()), explain::closed_unanswered(self.settings.protocol))
            }
            (None, _) => (self.backoff.next(fastrand::f64()), closed.reason),
        };
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(reason = why, retry_in_ms = millis, "no connection to the broker");
        self.phase = Phase::Waiting { until: now + wait, why };
    }
}
