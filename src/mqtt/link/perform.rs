//! Delivery's actions, performed.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use intentd_core::Utterance;
use intentd_core::admission::Door;
use intentd_core::delivery::{Action, Arrival, Counted, Ignored, Key, Outgoing, Publication, Refusal};

use super::connection::{Publish, Request};
use super::{Link, Token, Understood, v5};
use crate::convert;
use crate::inference::Inference;
use crate::mqtt::outbound;

impl Link {
    /// In order; what an action leads to at once comes after the others.
    pub(super) fn perform(&mut self, now: Instant, actions: Vec<Action<Bytes>>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Parse { key } => self.parse(key),
                Action::Publish { publication, key, message } => {
                    self.log_dead_letter(now, key, &message);
                    if let Some(refusal) = self.publish(publication, key, &message) {
                        actions.extend(self.delivery.on_refused(now, publication, refusal));
                    }
                }
                Action::Acknowledge { epoch, packet } => {
                    if epoch == self.delivery.epoch()
                        && let Some(connection) = &mut self.connection
                    {
                        connection.request(Request::Acknowledge(packet));
                        self.count("acknowledged", 1);
                    }
                }
                Action::Reconnect => self.leave(now),
                Action::Count(counted) => self.note(now, counted),
            }
        }
    }

    fn parse(&mut self, key: Key) {
        let Some(Ok(accepted)) = self.delivery.entry(key).map(|arrival| &arrival.content) else { return };
        let understanding = understand(self.inference.clone(), accepted.utterance.clone());
        let task = self.parses.spawn(understanding);
        self.parsing.insert(task.id(), key);
    }

    /// Returns why the broker would not take it.
    fn publish(&mut self, publication: Publication, key: Key, message: &Outgoing<Bytes>) -> Option<Refusal> {
        let arrival = self.delivery.entry(key)?;
        let publish = self.encode(arrival, message)?;
        let connection = self.connection.as_mut()?;
        if let Some(limit) = self.limits.and_then(|limits| limits.packet) {
            let (bytes, limit) = (v5::size(&publish), usize::try_from(limit).unwrap_or(usize::MAX));
            if bytes > limit {
                return Some(Refusal::TooLarge { bytes, limit });
            }
        }
        connection.publish(publish, Token::Answer(publication));
        None
    }

    /// None where there is no topic to answer on, which inbound has ruled out.
    fn encode(&self, arrival: &Arrival, message: &Outgoing<Bytes>) -> Option<Publish> {
        let (id, ..) = outbound::origin(arrival);
        let answer = |payload: Bytes| {
            Some(Publish {
                topic: arrival.reply.topic.clone().or_else(|| self.routes.intent_topic(arrival))?,
                payload,
                qos: self.routes.qos(arrival.route).min(self.answer_qos),
                retain: false,
                id: Some(id.to_owned()).filter(|id| !id.is_empty()),
                correlation: arrival.reply.correlation.clone().map(Bytes::from),
                probe: None,
            })
        };
        match message {
            Outgoing::Intent(payload) => answer(payload.clone()),
            Outgoing::ErrorAnswer(letter) => answer(outbound::error_answer(arrival, letter)),
            Outgoing::DeadLetter(letter) => Some(Publish {
                topic: self.dead_letter_topic.clone(),
                payload: outbound::dead_letter(arrival, letter),
                qos: self.answer_qos,
                ..Publish::default()
            }),
        }
    }

    fn note(&mut self, now: Instant, counted: Counted) {
        let (event, message) = match counted {
            Counted::Ignored(Ignored::Unrouted) => ("unrouted", None),
            Counted::Ignored(Ignored::Probe) => ("probe", None),
            Counted::Ignored(Ignored::Retained) => ("retained", None),
            Counted::Duplicate => ("duplicate", None),
            Counted::Qos0 => ("qos0", None),
            Counted::Qos0Dropped => {
                ("qos0_dropped", Some("an utterance with QoS 0 was thrown away: too many wait"))
            }
            Counted::LeftToBroker => (
                "left_to_broker",
                Some("the broker sends more than the receive maximum; what has no place is left to it"),
            ),
            Counted::DeadLetter(reason) => {
                self.metrics.mqtt_dead_letters.get_or_create(&[("reason", reason.as_str())]).inc();
                ("dead_letter", None)
            }
            Counted::ParsedLater => ("parsed_later", None),
            Counted::ParseFailed => ("parse_failed", Some("inference failed on an utterance")),
            Counted::PublishedAgain => ("republished", None),
            Counted::Refused => ("refused", Some("the broker refused a message")),
            Counted::GivenUp => ("given_up", Some("the broker refuses even a dead letter; it is given up")),
        };
        self.count(event, 1);
        if let Some(message) = message
            && let Some(kept_back) = self.seldom.may_write(event, now)
        {
            tracing::warn!(event, kept_back, "{message}");
        }
    }

    fn log_dead_letter(&mut self, now: Instant, key: Key, message: &Outgoing<Bytes>) {
        let Outgoing::DeadLetter(letter) = message else { return };
        let Some(arrival) = self.delivery.entry(key) else { return };
        let reason = letter.reason.as_str();
        if let Some(kept_back) = self.seldom.may_write(reason, now) {
            let (id, site, device) = outbound::origin(arrival);
            tracing::warn!(id, site, device, reason, kept_back, "a dead letter");
        }
    }
}

async fn understand(inference: Inference, utterance: Utterance) -> Understood {
    let parsed = inference.submit(Door::Mqtt, utterance, None).await?;
    Ok(vec![convert::to_json(&convert::answer(&parsed)).into()])
}
