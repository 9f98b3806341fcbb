//! The link to the broker, the only user of rumqttc: select an event, let delivery decide, perform what it says.
//!
//! The link never waits for anything but the next event. While there is no broker it waits, longer after each
//! failure; what was not acknowledged stays in delivery's table and is published again on the next connection.

mod connection;
mod drain;
mod perform;
mod seldom;
mod setup;
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

use self::connection::{Closed, Connection, Event, Limits, Settings, Subscription};
use self::seldom::Seldom;
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

/// The same after another client took our id: two that take turns must not do so faster than this.
const PROVEN_AFTER_TAKEOVER: Duration = Duration::from_secs(60);

/// A publish without a PUBACK for so many keep-alives means that the broker answers pings and nothing else.
const SILENT_KEEP_ALIVES: u32 = 3;

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
    taken_over: bool,
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
    /// The broker refused a subscription; it is asked again then.
    Refused { until: Instant, why: String },
    /// Utterances arrive.
    Subscribed { since: Instant },
    /// Disconnecting in order to connect again; given up then.
    Leaving { until: Instant },
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
            taken_over: false,
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
            Event::Closed(closed) => self.on_closed(now, closed),
            Event::Published { token: Token::Status(_), refused: None } | Event::Unsubscribed => {}
        }
    }

    fn on_connected(&mut self, now: Instant, session_present: bool, limits: Limits) {
        tracing::info!(session_present, window = limits.window, "connected to the broker");
        self.metrics.mqtt_connections.inc();
        self.limits = Some(limits);
        // Before any publish, so that what the broker holds back for us comes at once.
        self.subscribe(now);
        let actions = self.delivery.on_connected(now, session_present, limits.window);
        self.perform(now, actions);
    }

    /// On every connection: the broker may have lost the subscription with its session, and to repeat it is harmless.
    fn subscribe(&mut self, now: Instant) {
        self.phase = Phase::Subscribing { since: now };
        if let Some(connection) = &mut self.connection {
            connection.request(connection::Request::Subscribe(self.subscriptions.clone()));
        }
    }

    fn on_subscribed(&mut self, now: Instant, refused: Option<(usize, String)>) {
        if let Some((index, reason)) = refused {
            let filter =
                self.subscriptions.get(index).map_or("", |subscription| subscription.filter.as_str());
            let why = format!("the broker refused the subscription {filter}: {reason}");
            tracing::warn!(filter, reason, "the broker refused a subscription");
            self.phase = Phase::Refused { until: now + self.backoff.next(fastrand::f64()), why };
            return;
        }
        self.phase = Phase::Subscribed { since: now };
        self.rejoining = false;
        self.publish_status(State::Online);
        tracing::info!("subscribed");
    }

    fn on_message(&mut self, now: Instant, message: Message) {
        self.count("received", 1);
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
            Phase::Waiting { until, why } if *until <= now => {
                self.phase = Phase::Connecting { why: why.clone() };
                match Connection::open(&self.settings) {
                    Ok(connection) => self.connection = Some(connection),
                    Err(mistake) => self.on_closed(now, Closed::because(mistake.to_string())),
                }
            }
            Phase::Refused { until, .. } if *until <= now => self.subscribe(now),
            Phase::Leaving { until } if *until <= now => self.connect_again(now),
            Phase::Subscribed { since } => {
                let proven = if self.taken_over { PROVEN_AFTER_TAKEOVER } else { PROVEN_AFTER };
                if now.duration_since(*since) >= proven {
                    self.backoff.reset();
                    self.taken_over = false;
                }
            }
            _ => {}
        }
        self.check_silence(now);
    }

    /// A broker that answers pings but nothing else would hold the window, or the subscription, for ever.
    fn check_silence(&mut self, now: Instant) {
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
    fn leave(&mut self, now: Instant) {
        self.delivery.on_disconnected();
        if let Some(connection) = &mut self.connection {
            connection.request(connection::Request::Disconnect);
        }
        self.rejoining = true;
        self.phase = Phase::Leaving { until: now + TICK };
    }

    /// Not a failure, so it doesn't wait longer each time.
    fn connect_again(&mut self, now: Instant) {
        self.connection = None;
        self.limits = None;
        let why = "connecting again, for what was left to the broker".to_owned();
        self.phase = Phase::Waiting { until: now + Backoff::FLOOR, why };
    }

    /// The next connection is a new client.
    fn on_closed(&mut self, now: Instant, closed: Closed) {
        self.connection = None;
        self.limits = None;
        self.rejoining = false;
        self.delivery.on_disconnected();
        self.taken_over |= closed.taken_over;
        let wait = self.backoff.next(fastrand::f64());
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(reason = closed.reason, retry_in_ms = millis, "no connection to the broker");
        self.phase = Phase::Waiting { until: now + wait, why: closed.reason };
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
            Phase::Connecting { .. } | Phase::Subscribing { .. } | Phase::Subscribed { .. } => None,
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
