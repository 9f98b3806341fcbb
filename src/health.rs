//! What the daemon knows about itself: whether each loop still turns, whether it can do its work and why not.
//! systemd (READY, STATUS, WATCHDOG), `/readyz` and `/healthz` all read from here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// A loop that must keep turning. Each shows itself at least once a second, idle or in back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loop {
    /// Accepts gRPC connections.
    Accept,
    /// A worker thread, by its number.
    Inference(usize),
    /// Polls the MQTT connection.
    Link,
}

/// Where the MQTT door stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MqttState {
    /// Switched off by the configuration.
    Off,
    /// Not connected, or connected without its subscriptions; the text says why.
    Unready(String),
    /// Subscribed: utterances arrive.
    Subscribed,
}

/// Shared knowledge; cheap to clone.
#[derive(Clone)]
pub struct Health {
    state: Arc<Mutex<State>>,
}

struct State {
    beats: BTreeMap<Loop, Instant>,
    mqtt: MqttState,
    phase: Phase,
    /// What an operator must mend although the daemon serves.
    degraded: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Draining,
}

impl Health {
    /// At the start. `degraded` is what an operator must mend although the daemon serves.
    pub fn new(degraded: Option<String>) -> Self {
        let state = State { beats: BTreeMap::new(), mqtt: MqttState::Off, phase: Phase::Starting, degraded };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Notes that a loop turned.
    pub fn beat(&self, which: Loop) {
        self.lock().beats.insert(which, Instant::now());
    }

    /// A loop that ended as it should is no longer watched.
    pub fn ended(&self, which: Loop) {
        self.lock().beats.remove(&which);
    }

    /// Notes where the MQTT door stands.
    pub fn mqtt(&self, mqtt: MqttState) {
        let mut state = self.lock();
        if state.mqtt != mqtt {
            state.mqtt = mqtt;
            notify(&[NotifyState::Status(&state.status())]);
        }
    }

    /// Everything is bound and tested: tells systemd.
    pub fn serving(&self) {
        let mut state = self.lock();
        state.phase = Phase::Serving;
        notify(&[NotifyState::Ready, NotifyState::Status(&state.status())]);
    }

    /// The stop has begun: tells systemd.
    pub fn draining(&self) {
        let mut state = self.lock();
        state.phase = Phase::Draining;
        notify(&[NotifyState::Stopping, NotifyState::Status(&state.status())]);
    }

    /// Why utterances would not be answered on both doors now; none when they would.
    pub fn unready(&self) -> Option<String> {
        let state = self.lock();
        match (state.phase, &state.mqtt) {
            (Phase::Starting, _) => Some("starting".to_owned()),
            (Phase::Draining, _) => Some("draining".to_owned()),
            (Phase::Serving, MqttState::Unready(why)) => Some(format!("mqtt: {why}")),
            (Phase::Serving, MqttState::Off | MqttState::Subscribed) => None,
        }
    }

    /// What an operator must mend although the daemon serves.
    pub fn degraded(&self) -> Option<String> {
        self.lock().degraded.clone()
    }

    /// Loops that have not turned for longer than `limit`.
    pub fn stalled(&self, now: Instant, limit: Duration) -> Vec<Loop> {
        let state = self.lock();
        let late = |beat: &Instant| now.saturating_duration_since(*beat) > limit;
        state.beats.iter().filter(|(_, beat)| late(beat)).map(|(which, _)| *which).collect()
    }

    /// Tells systemd's watchdog that every loop turns, for as long as they do and anybody still holds this knowledge.
    /// A thread of its own, so that it can name the loop that hangs even when the whole runtime does.
    pub fn keep_watchdog(&self) -> std::io::Result<()> {
        let Some(period) = sd_notify::watchdog_enabled() else { return Ok(()) };
        let state = Arc::downgrade(&self.state);
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            while let Some(state) = state.upgrade() {
                Self { state }.tell_watchdog(period / 2);
                std::thread::sleep(period / 3);
            }
        })?;
        Ok(())
    }

    fn tell_watchdog(&self, limit: Duration) {
        let stalled = self.stalled(Instant::now(), limit);
        if stalled.is_empty() {
            notify(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(?stalled, "a loop has stalled; the watchdog is not told that all is well");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn status(&self) -> String {
        let phase = match self.phase {
            Phase::Starting => "starting",
            Phase::Serving => "serving",
            Phase::Draining => "draining",
        };
        let mqtt = match &self.mqtt {
            MqttState::Off => "mqtt off".to_owned(),
            MqttState::Unready(why) => format!("mqtt: {why}"),
            MqttState::Subscribed => "mqtt subscribed".to_owned(),
        };
        let degraded = self.degraded.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
        format!("{phase}; {mqtt}{degraded}")
    }
}

/// Without a service manager there is nobody to tell, and a full socket must not stop the daemon.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_tells_the_reason() {
        let health = Health::new(None);
        assert_eq!(health.unready().as_deref(), Some("starting"));
        health.serving();
        assert_eq!(health.unready(), None);
        health.mqtt(MqttState::Unready("connection refused".to_owned()));
        assert_eq!(health.unready().as_deref(), Some("mqtt: connection refused"));
        health.mqtt(MqttState::Subscribed);
        assert_eq!(health.unready(), None);
        health.draining();
        assert_eq!(health.unready().as_deref(), Some("draining"));
    }

    #[test]
    fn a_loop_that_stops_turning_is_named_until_it_ends() {
        let health = Health::new(None);
        health.beat(Loop::Link);
        health.beat(Loop::Accept);
        let later = Instant::now() + Duration::from_secs(5);
        assert_eq!(health.stalled(later, Duration::from_secs(2)), [Loop::Accept, Loop::Link]);
        health.ended(Loop::Link);
        assert_eq!(health.stalled(later, Duration::from_secs(2)), [Loop::Accept]);
        assert!(health.stalled(Instant::now(), Duration::from_secs(2)).is_empty());
    }
}
