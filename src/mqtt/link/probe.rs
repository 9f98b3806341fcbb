//! Whether the broker delivers what it has granted. Some acknowledge a subscription that their access list forbids, and
//! then stay silent; nothing but a message that comes back tells. So the daemon publishes one to a topic of each route.
//!
//! It comes back by a subscription to that one topic, beside the route's: the routes ask not to be sent what we publish
//! ourselves (No Local), and mosquitto (2.0.11) changes that option of no subscription that a session already has.
//!
//! A probe comes behind all that the broker has kept for us, which may take minutes. So the limit runs from the last
//! sign that the broker has not come to the probes yet.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::connection::{Message, Publish, Subscription};
use super::explain;

/// User property that marks a probe; its value is the token of the attempt.
pub(super) const PROPERTY: &str = "intentd-probe";

/// The payload says it as well: a bridge may drop properties, and MQTT 3.1.1 has none.
const PAYLOAD: (&str, &str) = ("{\"intentd-probe\":\"", "\"}");

/// Longest token of a payload.
const MAX_TOKEN_BYTES: usize = 64;

/// Stands for site, device and whatever else a route names.
pub(super) const NAME: &str = "_probe";

/// A probe that somebody's session keeps tells nothing after so long.
pub(super) const EXPIRY: Duration = Duration::from_secs(30);

/// From the last sign to the verdict. One that comes later still counts, so a slow line delays and no more.
const WITHIN: Duration = Duration::from_millis(1500);

/// The topics to try, and how far each has come on this connection.
#[derive(Debug)]
pub(super) struct Probe {
    topics: Vec<Topic>,
    token: String,
    /// The last sign that the broker has not come to the probes yet.
    moved: Instant,
    /// One has come back, so all that was kept for us is delivered.
    caught_up: bool,
}

#[derive(Debug)]
struct Topic {
    topic: String,
    /// What the route subscribes to.
    filter: String,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Waiting,
    Back,
    /// The broker doesn't let us publish or subscribe there, which says nothing about the route. Not tried again before
    /// the next start: mosquitto (2.0.11) with `max_queued_messages 0` ends the connection as well.
    Impossible,
}

/// What the probes say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Open,
    /// All that can be probed has come back.
    Delivers,
    /// Something has not, and how to mend it.
    Silent(String),
}

impl Probe {
    /// For these pairs of a topic and the filter of its route.
    pub(super) fn new(topics: impl Iterator<Item = (String, String)>) -> Self {
        let idle = |(topic, filter)| Topic { topic, filter, state: State::Idle };
        Self {
            topics: topics.map(idle).collect(),
            token: String::new(),
            moved: Instant::now(),
            caught_up: false,
        }
    }

    /// What the probes come back by.
    pub(super) fn subscriptions(&self) -> impl Iterator<Item = Subscription> {
        let to = |topic: &Topic| Subscription {
            filter: topic.topic.clone(),
            qos: 1,
            shared: false,
            no_local: false,
        };
        self.topics.iter().map(to)
    }

    /// What was sent before proves nothing any more.
    pub(super) fn reset(&mut self) {
        let possible = self.topics.iter_mut().filter(|topic| topic.state != State::Impossible);
        possible.for_each(|topic| topic.state = State::Idle);
    }

    /// After the SUBACK: what to publish, each with its number.
    pub(super) fn start(&mut self, now: Instant) -> Vec<(usize, Publish)> {
        (self.token, self.moved, self.caught_up) = (Uuid::new_v4().to_string(), now, false);
        let payload = format!("{}{}{}", PAYLOAD.0, self.token, PAYLOAD.1);
        let waiting = self.topics.iter_mut().enumerate().filter(|(_, topic)| topic.state == State::Idle);
        let publish = waiting.map(|(index, topic)| {
            topic.state = State::Waiting;
            let (topic, payload) = (topic.topic.clone(), payload.clone().into());
            (index, Publish { topic, payload, qos: 1, probe: Some(self.token.clone()), ..Publish::default() })
        });
        publish.collect()
    }

    /// The broker doesn't let us subscribe to the topic of this number, or not publish on it.
    pub(super) fn cannot(&mut self, index: usize, why: &str) {
        let Some(topic) = self.topics.get_mut(index) else { return };
        if std::mem::replace(&mut topic.state, State::Impossible) != State::Impossible {
            let Topic { topic, filter, .. } = topic;
            tracing::warn!(topic, why, "can't probe whether the broker delivers {filter} (mqtt.probe)");
        }
    }

    /// PUBACK.
    pub(super) fn on_published(&mut self, now: Instant, index: usize, refused: Option<u8>) {
        match refused {
            None => self.moved = now,
            Some(code) => self.cannot(index, &explain::refused_publication(code)),
        }
    }

    /// Any message from the broker.
    pub(super) fn on_message(&mut self, now: Instant, message: &Message) {
        if message.probe.as_ref() == Some(&self.token) {
            let waiting = |topic: &&mut Topic| topic.state == State::Waiting && topic.topic == message.topic;
            if let Some(topic) = self.topics.iter_mut().find(waiting) {
                topic.state = State::Back;
                (self.moved, self.caught_up) = (now, true);
            }
        } else if !self.caught_up {
            self.moved = now;
        }
    }

    /// When [`verdict`](Self::verdict) may become `Silent`.
    pub(super) fn due(&self) -> Instant {
        self.moved + WITHIN
    }

    pub(super) fn verdict(&self, now: Instant) -> Verdict {
        if self.topics.iter().any(|topic| topic.state == State::Idle) {
            return Verdict::Open;
        }
        match self.topics.iter().find(|topic| topic.state == State::Waiting) {
            None => Verdict::Delivers,
            Some(_) if now < self.due() => Verdict::Open,
            Some(Topic { topic, filter, .. }) => Verdict::Silent(format!(
                "the broker grants the subscription {filter} and delivers nothing: a probe on {topic} did not come back; \
                 let this client read both in the broker's access list (mqtt.probe)"
            )),
        }
    }

    /// What is waited for.
    pub(super) fn awaited(&self) -> String {
        let waiting = self.topics.iter().find(|topic| topic.state == State::Waiting);
        format!("waiting for the probe on {}", waiting.map_or("", |topic| topic.topic.as_str()))
    }
}

/// The token of a message that is a probe, anybody's.
pub(super) fn token(property: Option<String>, payload: &[u8]) -> Option<String> {
    property.or_else(|| {
        let token = payload.strip_prefix(PAYLOAD.0.as_bytes())?.strip_suffix(PAYLOAD.1.as_bytes())?;
        let token = std::str::from_utf8(token).ok().filter(|token| token.len() <= MAX_TOKEN_BYTES)?;
        Some(token.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// Two routes, probed.
    fn started(now: Instant) -> (Probe, Vec<Message>) {
        let topics = ["a/_probe", "b/_probe"].map(|topic| (topic.to_owned(), topic.replace("_probe", "+")));
        let mut probe = Probe::new(topics.into_iter());
        assert_eq!(probe.verdict(now + WITHIN), Verdict::Open, "not before it has started");
        let sent = probe.start(now);
        assert_eq!(sent.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 1]);
        let back = |(_, publish): (usize, Publish)| Message {
            probe: token(None, &publish.payload),
            topic: publish.topic,
            ..Message::default()
        };
        (probe, sent.into_iter().map(back).collect())
    }

    fn is_silent(verdict: Verdict, topic: &str) -> bool {
        matches!(verdict, Verdict::Silent(why) if why.contains(topic))
    }

    #[test]
    fn all_that_comes_back_proves_delivery() {
        let now = Instant::now();
        let (mut probe, back) = started(now);
        probe.on_message(now, &back[0]);
        assert_eq!(probe.verdict(now), Verdict::Open);
        assert!(probe.awaited().contains("b/_probe"));
        probe.on_message(now, &back[1]);
        assert_eq!(probe.verdict(now), Verdict::Delivers);
    }

    #[test]
    fn silence_names_the_topic_and_a_late_probe_ends_it() {
        let now = Instant::now();
        let (mut probe, back) = started(now);
        probe.on_message(now, &back[0]);
        assert_eq!(probe.verdict(now + WITHIN - TICK), Verdict::Open);
        assert!(is_silent(probe.verdict(now + WITHIN), "b/_probe"));
        probe.on_message(now + 2 * WITHIN, &back[1]);
        assert_eq!(probe.verdict(now + 2 * WITHIN), Verdict::Delivers);
    }

    #[test]
    fn what_is_delivered_first_delays_the_verdict_until_the_first_probe_is_back() {
        let now = Instant::now();
        let (mut probe, back) = started(now);
        let kept = Message::default();
        for step in 1..100 {
            probe.on_message(now + step * TICK, &kept);
            assert_eq!(probe.verdict(now + step * TICK), Verdict::Open);
        }
        let later = now + 100 * TICK;
        probe.on_message(later, &back[0]);
        probe.on_message(later + WITHIN, &kept);
        assert!(is_silent(probe.verdict(later + WITHIN), "b/_probe"), "a busy route hides no silent one");
    }

    #[test]
    fn what_cannot_be_probed_is_not_held_against_the_broker() {
        let now = Instant::now();
        let (mut probe, back) = started(now);
        probe.on_published(now, 0, Some(0x87));
        probe.on_published(now, 1, None);
        probe.on_message(now, &back[1]);
        assert_eq!(probe.verdict(now), Verdict::Delivers);
        probe.reset();
        assert_eq!(
            probe.start(now).iter().map(|(index, _)| *index).collect::<Vec<_>>(),
            [1],
            "nor tried again"
        );
    }

    #[test]
    fn an_earlier_connections_probe_proves_nothing() {
        let now = Instant::now();
        let (mut probe, old) = started(now);
        probe.reset();
        old.iter().for_each(|message| probe.on_message(now, message));
        assert_eq!(probe.verdict(now), Verdict::Open);
        probe.start(now);
        old.iter().for_each(|message| probe.on_message(now, message));
        assert_eq!(probe.verdict(now), Verdict::Open);
    }

    #[test]
    fn probes_are_known_by_property_or_payload() {
        let known =
            |property: Option<&str>, payload: &str| token(property.map(str::to_owned), payload.as_bytes());
        assert_eq!(known(Some("7"), "anything").as_deref(), Some("7"));
        assert_eq!(known(None, "{\"intentd-probe\":\"7\"}").as_deref(), Some("7"));
        let long = format!("{{\"intentd-probe\":\"{}\"}}", "x".repeat(65));
        for other in ["", "{\"text\":\"intentd-probe\"}", "{\"intentd-probe\":\"7\"", &long] {
            assert_eq!(known(None, other), None, "{other}");
        }
    }
}
