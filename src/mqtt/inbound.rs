//! Messages of the broker to arrivals: which route, which site and device, what the codec makes of the payload, how
//! old it is, and where the answer goes.

use std::time::{Duration, SystemTime};

use intentd_core::delivery::{Accepted, Arrival, Ignored, Reason, Rejection, Reply};
use intentd_core::topic::{Captures, filters_overlap, valid_topic_name};
use uuid::Uuid;

use super::codec::{self, Format, Sender};
use super::link::Message;
use crate::config::{Codec, Mqtt, Route};

/// What delivery is told about a message.
#[derive(Debug, PartialEq)]
pub(super) enum Inbound {
    Arrival {
        arrival: Box<Arrival>,
        /// The sender asked for an answer on a topic that it may not have it on.
        response_topic_ignored: bool,
    },
    Ignored {
        packet: Option<u16>,
        why: Ignored,
    },
}

/// The configured routes.
#[derive(Debug)]
pub(super) struct Routes {
    routes: Vec<Route>,
    response_prefixes: Vec<String>,
    /// Topics that only the daemon itself speaks on.
    own: [String; 2],
}

impl Routes {
    pub(super) fn new(config: &Mqtt, own: [String; 2]) -> Self {
        Self { routes: config.routes.clone(), response_prefixes: config.response_prefixes.clone(), own }
    }

    /// Looks at a message. The first route that it matches counts.
    pub(super) fn inbound(&self, message: Message, now: SystemTime) -> Inbound {
        let packet = (message.qos > 0).then_some(message.packet_id);
        // Of this daemon or of another one at the same broker: nobody waits for an answer.
        if message.probe.is_some() {
            return Inbound::Ignored { packet, why: Ignored::Probe };
        }
        let matched = |(i, route): (usize, &Route)| Some((i, route.topics.matches(&message.topic)?));
        let Some((index, captures)) = self.routes.iter().enumerate().find_map(matched) else {
            return Inbound::Ignored { packet, why: Ignored::Unrouted };
        };
        let route = &self.routes[index];
        let captures = captures.and_then(|captures| {
            // An answer that can't be published is better refused before it is made.
            route.topics.intent_topic(&captures).map(|_| captures)
        });
        let (content, said_at) = match captures {
            Ok(captures) => decode(route, &message, &captures),
            Err(error) => (Err(bad_topic(&message, error.to_string())), None),
        };
        let (topic, response_topic_ignored) = self.reply_topic(message.response_topic);
        let arrival = Box::new(Arrival {
            packet,
            duplicate: message.duplicate,
            retained: message.retain,
            topic: message.topic,
            payload: message.payload.to_vec(),
            route: index,
            content,
            age: age(message.expires_in, said_at, now),
            max_age: route.max_age,
            attempts: 0,
            reply: Reply { topic, correlation: message.correlation.map(|data| data.to_vec()) },
        });
        Inbound::Arrival { arrival, response_topic_ignored }
    }

    /// Where the intents of this arrival go, unless it says otherwise itself. None for a topic without a route.
    pub(super) fn intent_topic(&self, arrival: &Arrival) -> Option<String> {
        let topics = &self.routes.get(arrival.route)?.topics;
        let captures = topics.matches(&arrival.topic)?.ok()?;
        topics.intent_topic(&captures).ok()
    }

    /// Quality of service of a route's intents.
    pub(super) fn qos(&self, route: usize) -> u8 {
        self.routes.get(route).map_or(1, |route| route.qos)
    }

    /// The Response Topic if it may be used, and whether one was ignored. The sender chooses it, so without these
    /// checks it could make the daemon publish anywhere, and in a circle.
    fn reply_topic(&self, asked: Option<String>) -> (Option<String>, bool) {
        let allowed = |topic: &String| {
            let below = self.response_prefixes.iter().any(|prefix| topic.starts_with(prefix.as_str()));
            let heard = self.routes.iter().any(|route| filters_overlap(&route.topics.subscription(), topic));
            below
                && !heard
                && !self.own.contains(topic)
                && valid_topic_name(topic)
                && !topic.starts_with('$')
                && !topic.contains(char::is_control)
        };
        let ignored = asked.as_ref().is_some_and(|topic| !allowed(topic));
        (asked.filter(allowed), ignored)
    }
}

fn decode(
    route: &Route,
    message: &Message,
    captures: &Captures,
) -> (Result<Accepted, Rejection>, Option<SystemTime>) {
    let (site, device) = (captures.site(), captures.device());
    let format = match route.codec {
        Codec::Json => Format::Json,
        Codec::Text => Format::Text,
    };
    let sender = Sender { site, device, id: message.id.as_deref() };
    let reject = |reason, message, id: String| Rejection {
        reason,
        message,
        id: Some(id).filter(|id| !id.is_empty()),
        site: site.to_owned(),
        device: device.to_owned(),
    };
    match codec::decode(format, &message.payload, sender) {
        Ok(decoded) if message.expires_in == Some(Duration::ZERO) => {
            let why = "its Message Expiry Interval has passed".to_owned();
            (Err(reject(Reason::Expired, why, decoded.utterance.id)), None)
        }
        Ok(decoded) => {
            let mut utterance = decoded.utterance;
            utterance.options.tasks = route.tasks.clone();
            utterance.options.bundle = route.bundle.clone();
            let sender_id = !utterance.id.is_empty();
            if !sender_id {
                utterance.id = Uuid::new_v4().to_string();
            }
            (Ok(Accepted { utterance, sender_id }), decoded.said_at)
        }
        Err(bad) => (Err(reject(bad.reason, bad.message, bad.id)), None),
    }
}

fn bad_topic(message: &Message, why: String) -> Rejection {
    let id = message.id.clone().filter(|id| codec::is_harmless(id));
    Rejection { reason: Reason::BadTopic, message: why, id, site: String::new(), device: String::new() }
}

/// With a Message Expiry Interval the broker has dropped what was too old, and what is left of it doesn't say how old
/// the message is; else the sender's own clock is all there is.
fn age(expires_in: Option<Duration>, said_at: Option<SystemTime>, now: SystemTime) -> Option<Duration> {
    match expires_in {
        Some(_) => None,
        None => said_at.and_then(|said_at| codec::age(said_at, now)),
    }
}

#[cfg(test)]
mod tests;
