//! The link to the broker, the only user of rumqttc: select an event, let delivery decide, perform what it says.
//!
//! The link never waits for anything but the next event. While there is no broker it waits, longer after each
//! failure; what was not acknowledged stays in delivery's table and is published again on the next connection.

mod connection;
mod drain;
mod explain;
mod perform;
mod probe;
mod reconnect;
mod seldom;
mod setup;
mod subscribe;
mod takeover;
mod tokens;
mod v311;
mod v5;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use intentd_core::delivery::{Backoff, Delivery, Key, Publication, Refusal};
use intentd_core::{ModelRef, ParseError};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use self::connection::{Connection, Event, Limits, Settings, Subscription};
use self::probe::Probe;
use self::seldom::Seldom;
use self::takeover::Takeover;
use super::inbound::{Inbound, Routes};
use super::outbound::{self, State};
use crate::config::Mqtt;
use crate::health::{Health, Loop, MqttState};
use crate::inference::Inference;
use crate::telemetry::Metrics;

pub(super) use self::connection::{MAX_PACKET_BYTES, Message};

/// How often the loop turns when nothing happens: for the watchdog and for what is to be tried again.
const TICK: Duration = Duration::from_secs(1);

/// A connection that has held for so long after its SUBACK is a good one.
const PROVEN_AFTER: Duration = Duration::from_secs(5);

/// What inference made of an utterance, encoded.
type Understood = Result<Vec<Bytes>, ParseError>;

/// The door's one task.
pub(super) struct Link {
    settings: Settings,
    routes: Routes,
    subscriptions: Vec<Subscription>,
    status_topic: String,
    dead_letter_topic: String,
    model: ModelRef,
    /// Quality of service of answers and dead letters, at most.
    answer_qos: u8,
    delivery: Delivery<Bytes>,
    connection: Option<Connection<Token>>,
    limits: Option<Limits>,
    phase: Phase,
    backoff: Backoff,
    takeover: Takeover,
    probe: Option<Probe>,
    /// Left of our own accord and not back yet; the retained status still says online.
    rejoining: bool,
    seldom: Seldom,
    parses: JoinSet<Understood>,
    parsing: HashMap<Id, Key>,
    inference: Inference,
    metrics: Metrics,
    health: Health,
}

/// Whose acknowledgement a PUBACK is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Answer(Publication),
    Status(State),
    Probe(usize),
}

/// Where the connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Until then no connection is tried.
    Waiting { until: Instant, why: String },
    /// TCP, CONNECT, CONNACK.
    Connecting { why: String },
    /// Connected; SUBSCRIBE is under way.
    Subscribing { since: Instant },
    /// SUBACK came; whether the broker delivers is yet to be seen.
    Probing,
    /// The broker refused a subscription, or grants it and delivers nothing; it is asked again then.
    Refused { until: Instant, why: String },
    /// Utterances arrive.
    Subscribed { since: Instant },
    /// Disconnecting in order to connect again; given up then.
    Leaving { until: Instant },
    /// The stop has begun; nothing is tried again.
    Draining,
}

/// What made the loop turn.
enum Step {
    Connection(Event<Token>),
    Parsed(Result<(Id, Understood), JoinError>),
    Tick,
}

impl Link {
    pub(super) fn new(
        config: &Mqtt,
        gateway: &str,
        inference: Inference,
        metrics: Metrics,
        health: Health,
    ) -> Self {
        let model = inference.models().own().model().clone();
        let (status_topic, dead_letter_topic) =
            (outbound::status_topic(gateway), outbound::dead_letter_topic(gateway));
        let own = [status_topic.clone(), dead_letter_topic.clone()];
        Self {
            settings: setup::settings(config, &status_topic, &model),
            routes: Routes::new(config, own),
            subscriptions: setup::subscriptions(config),
            status_topic,
            dead_letter_topic,
            model,
            answer_qos: setup::answer_qos(config),
            delivery: Delivery::new(config.receive_maximum),
            connection: None,
            limits: None,
            phase: Phase::Waiting { until: Instant::now(), why: "not connected yet".to_owned() },
            backoff: Backoff::default(),
            takeover: Takeover::default(),
            probe: setup::probe(config),
            rejoining: false,
            seldom: Seldom::default(),
            parses: JoinSet::new(),
            parsing: HashMap::new(),
            inference,
            metrics,
            health,
        }
    }

    /// Serves until `stop` turns true, then drains.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.show();
            let step = tokio::select! {
                step = self.select(&mut tick) => step,
                // An error means that nobody can ask any more, which is a stop as well.
                _ = stop.wait_for(|stop| *stop) => break,
            };
            self.apply(step);
        }
        self.drain(&mut tick).await;
        self.metrics.mqtt_connected.set(0);
        self.health.ended(Loop::Link);
    }

    /// What comes first. Cancel-safe.
    async fn select(&mut self, tick: &mut tokio::time::Interval) -> Step {
        let due = self.next_due();
        tokio::select! {
            event = next_event(&mut self.connection) => Step::Connection(event),
            Some(parsed) = self.parses.join_next_with_id() => Step::Parsed(parsed),
            _ = tick.tick() => Step::Tick,
            () = tokio::time::sleep_until(due.into()) => Step::Tick,
        }
    }

    fn apply(&mut self, step: Step) {
        let now = Instant::now();
        match step {
            Step::Connection(event) => self.on_event(now, event),
            Step::Parsed(parsed) => self.on_parsed(now, parsed),
            Step::Tick => self.on_tick(now),
        }
    }

    fn on_event(&mut self, now: Instant, event: Event<Token>) {
        if let Phase::Leaving { .. } = self.phase {
            // Not before the broker has closed: to close with something unread could take the DISCONNECT with it.
            if let Event::Closed(_) = event {
                self.connect_again(now);
            }
            return;
        }
        match event {
            Event::Connected { session_present, limits } => self.on_connected(now, session_present, limits),
            Event::Subscribed { refused } => self.on_subscribed(now, refused),
            Event::Message(message) => self.on_message(now, message),
            Event::Published { token: Token::Answer(publication), refused } => {
                let actions = match refused {
                    None => self.delivery.on_published(now, publication),
                    Some(code) => self.delivery.on_refused(now, publication, Refusal::Code(code)),
                };
                self.count("published", u64::from(refused.is_none()));
                self.perform(now, actions);
            }
            Event::Published { token: Token::Status(state), refused: Some(code) } => {
                tracing::warn!(?state, code, topic = self.status_topic, "the broker refused the status");
            }
            Event::Published { token: Token::Probe(index), refused } => {
                self.on_probe_published(now, index, refused);
            }
            Event::Closed(closed) => self.on_closed(now, closed),
            Event::Published { token: Token::Status(_), refused: None } | Event::Unsubscribed => {}
        }
    }

    fn on_message(&mut self, now: Instant, message: Message) {
        self.count("received", 1);
        self.on_probe_message(now, &message);
        let actions = match self.routes.inbound(message, std::time::SystemTime::now()) {
            Inbound::Arrival { mut arrival, response_topic_ignored } => {
                if let Ok(accepted) = &arrival.content {
                    arrival.attempts = self.inference.attempts(&accepted.utterance);
                }
                self.count("response_topic_ignored", u64::from(response_topic_ignored));
                self.delivery.on_arrival(now, *arrival)
            }
            Inbound::Ignored { packet, why } => self.delivery.on_ignored(now, packet, why),
        };
        self.perform(now, actions);
    }

    fn on_parsed(&mut self, now: Instant, parsed: Result<(Id, Understood), JoinError>) {
        let (id, result) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => (error.id(), Err(ParseError::Internal("encoding the answer failed".to_owned()))),
        };
        if let Some(key) = self.parsing.remove(&id) {
            let actions = self.delivery.on_parsed(now, key, result);
            self.perform(now, actions);
        }
    }

    fn on_tick(&mut self, now: Instant) {
        self.health.beat(Loop::Link);
        let actions = self.delivery.on_tick(now);
        self.perform(now, actions);
        match &self.phase {
            Phase::Waiting { until, why } if *until <= now => self.connect(now, why.clone()),
            Phase::Refused { until, .. } if *until <= now => self.subscribe(now),
            Phase::Leaving { until } if *until <= now => self.connect_again(now),
            Phase::Probing => self.judge_probe(now),
            Phase::Subscribed { since } if now.duration_since(*since) >= PROVEN_AFTER => self.backoff.reset(),
            _ => {}
        }
        self.check_silence(now);
    }

    fn publish_status(&mut self, state: State) {
        let Some(connection) = &mut self.connection else { return };
        let publish = setup::status_publish(&self.status_topic, state, &self.model);
        connection.publish(publish, Token::Status(state));
    }

    /// When something is due without an event.
    fn next_due(&self) -> Instant {
        let retry = match &self.phase {
            Phase::Waiting { until, .. } | Phase::Refused { until, .. } | Phase::Leaving { until } => {
                Some(*until)
            }
            Phase::Probing => self.probe.as_ref().map(Probe::due),
            Phase::Connecting { .. }
            | Phase::Subscribing { .. }
            | Phase::Subscribed { .. }
            | Phase::Draining => None,
        };
        let far = Instant::now() + TICK;
        [retry, self.delivery.next_tick()].into_iter().flatten().fold(far, Instant::min)
    }

    /// Tells health and metrics where the door stands.
    pub(super) fn show(&self) {
        self.health.beat(Loop::Link);
        self.metrics.mqtt_in_flight.set(i64::try_from(self.delivery.in_flight()).unwrap_or(i64::MAX));
        self.metrics.mqtt_connected.set(i64::from(matches!(self.phase, Phase::Subscribed { .. })));
        let state = match &self.phase {
            Phase::Subscribed { .. } if self.delivery.is_refused() => {
                MqttState::Unready("the broker refuses what is published".to_owned())
            }
            Phase::Subscribed { .. } => MqttState::Subscribed,
            Phase::Subscribing { .. } => MqttState::Unready("subscribing".to_owned()),
            Phase::Probing => MqttState::Unready(self.probe.as_ref().map(Probe::awaited).unwrap_or_default()),
            Phase::Draining => MqttState::Unready("stopping".to_owned()),
            Phase::Leaving { .. } => MqttState::Unready("connecting again".to_owned()),
            Phase::Connecting { why } | Phase::Waiting { why, .. } | Phase::Refused { why, .. } => {
                MqttState::Unready(why.clone())
            }
        };
        self.health.mqtt(state);
    }

    fn count(&self, event: &'static str, n: u64) {
        if n > 0 {
            self.metrics.mqtt_events.get_or_create(&[("event", event)]).inc_by(n);
        }
    }
}

/// Without a connection there is none.
async fn next_event(connection: &mut Option<Connection<Token>>) -> Event<Token> {
    match connection {
        Some(connection) => connection.next().await,
        None => std::future::pending().await,
    }
}
