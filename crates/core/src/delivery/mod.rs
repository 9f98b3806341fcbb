//! Delivery of utterances that come over MQTT: each is answered before it is acknowledged.
//!
//! The broker is the queue. An utterance is acknowledged to the broker only after the broker has acknowledged the
//! utterance's intent, or its dead letter; so whatever dies in between, the broker hands the utterance out again.
//! [`Delivery`] decides this without a socket, a clock or a thread: the link feeds it events and performs the
//! [`Action`]s that come back, at once and in order.
//!
//! What holds, whatever the broker and the network do:
//!
//! - No acknowledgement leaves before the PUBACK of every message of its utterance.
//! - Acknowledgements leave in the order of receipt, and only on the connection that the packet came in on.
//! - After a reconnect every message without a PUBACK is published again; a new client starts from nothing.
//! - A packet that the broker sends again joins its entry: one inference, one id.
//! - Nothing waits for ever: refused messages end as dead letters, refused dead letters are given up and counted.

mod action;
mod arrival;
mod backoff;
mod connection;
mod entry;
#[cfg(test)]
mod model;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Instant;

use crate::understanding::ParseError;

pub use action::{Action, Counted, Epoch, Key, Letter, Outgoing, Publication, Refusal};
pub use arrival::{Accepted, Arrival, Ignored, Reason, Rejection, Reply};
pub use backoff::Backoff;

use connection::{Connection, Owner};
use entry::{Entry, Progress, Stage};

/// Failures of inference after which an utterance is a dead letter.
pub const MAX_ATTEMPTS: u32 = 3;

/// The table of utterances in flight, and what happens to them. `M` is an encoded message, opaque here; it is cloned
/// for each handing over, so it should be cheap to clone.
#[derive(Debug)]
pub struct Delivery<M> {
    receive_maximum: usize,
    /// None while there is no broker.
    connection: Option<Connection>,
    epoch: Epoch,
    entries: BTreeMap<Key, Entry<M>>,
    next_key: Key,
    next_publication: Publication,
}

impl<M: Clone> Delivery<M> {
    /// An empty table, not connected. `receive_maximum` is the one of our CONNECT: how many utterances the broker may
    /// send before the first is acknowledged.
    pub fn new(receive_maximum: u16) -> Self {
        Self {
            receive_maximum: usize::from(receive_maximum.max(1)),
            connection: None,
            epoch: Epoch(0),
            entries: BTreeMap::new(),
            next_key: Key(0),
            next_publication: Publication(0),
        }
    }

    /// Most utterances in the table, and so most that inference is asked for at a time: admission needs as many MQTT
    /// places. More than the receive maximum, since those of a session that the broker lost stay until they are
    /// answered, QoS 0 doesn't count towards it, and MQTT 3.1.1 has none.
    pub fn places(&self) -> usize {
        self.receive_maximum * 4
    }

    /// CONNACK. `publish_window` is how many publications may be in flight: below the client's own limit and at most
    /// the CONNACK's receive maximum.
    pub fn on_connected(
        &mut self,
        now: Instant,
        session_present: bool,
        publish_window: u16,
    ) -> Vec<Action<M>> {
        self.on_disconnected();
        self.epoch.0 += 1;
        self.connection = Some(Connection::new(self.epoch, publish_window));
        if !session_present {
            // The broker will not send these packets again, and their identifiers mean other messages now.
            self.entries.values_mut().for_each(|entry| entry.packets.clear());
        }
        self.settle(now, Vec::new())
    }

    /// The connection is gone, whatever the cause. Nothing of it survives but what the entries know.
    pub fn on_disconnected(&mut self) {
        if self.connection.take().is_some() {
            self.entries.values_mut().for_each(Entry::disconnect);
        }
    }

    /// A message of a subscribed topic.
    pub fn on_arrival(&mut self, now: Instant, arrival: Arrival) -> Vec<Action<M>> {
        let Some(connection) = &mut self.connection else { return Vec::new() };
        if let Some(packet) = arrival.packet
            && (connection.crosses(packet, arrival.duplicate) || connection.leaves_out(packet))
        {
            return vec![Action::Count(Counted::Duplicate)];
        }
        if arrival.retained {
            return self.on_ignored(now, arrival.packet, Ignored::Retained);
        }
        let mut actions = Vec::new();
        if arrival.packet.is_none() {
            actions.push(Action::Count(Counted::Qos0));
        }
        if self.joins(now, &arrival) {
            actions.push(Action::Count(Counted::Duplicate));
        } else if let Some(counted) = self.turned_away(&arrival) {
            actions.push(Action::Count(counted));
        } else {
            actions.push(self.begin(now, arrival));
        }
        self.settle(now, actions)
    }

    /// A message that is acknowledged in its turn and not acted on.
    pub fn on_ignored(&mut self, now: Instant, packet: Option<u16>, why: Ignored) -> Vec<Action<M>> {
        if let (Some(connection), Some(packet)) = (&mut self.connection, packet) {
            connection.queue(packet, Owner::Nobody);
        }
        self.settle(now, vec![Action::Count(Counted::Ignored(why))])
    }

    /// What inference made of an utterance: its encoded messages, or why there are none.
    pub fn on_parsed(
        &mut self,
        now: Instant,
        key: Key,
        result: Result<Vec<M>, ParseError>,
    ) -> Vec<Action<M>> {
        let random = self.random();
        let Some(entry) = self.entries.get_mut(&key) else { return Vec::new() };
        if !matches!(entry.stage, Stage::Parsing) {
            return Vec::new();
        }
        let mut actions = Vec::new();
        match result {
            Ok(messages) => entry.answer(messages.into_iter().map(Outgoing::Intent)),
            Err(ParseError::Invalid(invalid)) => {
                let reason = Reason::from(invalid.kind);
                let letter = Letter { reason, message: invalid.to_string(), attempts: 0 };
                actions.push(Action::Count(entry.bury(letter)));
            }
            Err(ParseError::Internal(message)) => {
                actions.push(Action::Count(Counted::ParseFailed));
                entry.attempts += 1;
                if entry.attempts < MAX_ATTEMPTS {
                    entry.stage = Stage::ParseAgain(now + entry.backoff.next(random));
                } else {
                    let letter = Letter { reason: Reason::Poison, message, attempts: entry.attempts };
                    actions.push(Action::Count(entry.bury(letter)));
                }
            }
            // None of these is the utterance's fault: it waits, and the broker holds back what comes after it.
            Err(
                ParseError::Overloaded { .. }
                | ParseError::TaskMissing(_)
                | ParseError::DeadlineExceeded
                | ParseError::Unavailable(_),
            ) => {
                actions.push(Action::Count(Counted::ParsedLater));
                entry.stage = Stage::ParseAgain(now + entry.backoff.next(random));
            }
        }
        self.settle(now, actions)
    }

    /// The broker's PUBACK with success.
    pub fn on_published(&mut self, now: Instant, publication: Publication) -> Vec<Action<M>> {
        let Some((key, index)) = self.take_in_flight(publication) else { return Vec::new() };
        self.prove(publication);
        if let Some(Stage::Answering(messages)) = self.entries.get_mut(&key).map(|entry| &mut entry.stage)
            && let Some(message) = messages.get_mut(index)
        {
            message.progress = Progress::Done;
        }
        self.settle(now, Vec::new())
    }

    /// The broker's PUBACK with a reason code of failure, or a message that is too large to be sent.
    pub fn on_refused(&mut self, now: Instant, publication: Publication, refusal: Refusal) -> Vec<Action<M>> {
        let Some((key, index)) = self.take_in_flight(publication) else { return Vec::new() };
        if matches!(refusal, Refusal::Code(_)) {
            self.prove(publication);
        }
        let random = self.random();
        let mut actions = vec![Action::Count(Counted::Refused)];
        if let Some(entry) = self.entries.get_mut(&key) {
            actions.extend(entry.refuse(index, refusal, now, random).map(Action::Count));
        }
        self.settle(now, actions)
    }

    /// To be called at [`next_tick`](Self::next_tick); any other time does no harm.
    pub fn on_tick(&mut self, now: Instant) -> Vec<Action<M>> {
        let mut actions = Vec::new();
        for (key, entry) in &mut self.entries {
            if entry.parse_at().is_some_and(|at| at <= now) {
                entry.stage = Stage::Parsing;
                actions.push(Action::Parse { key: *key });
            }
        }
        self.settle(now, actions)
    }

    /// When something is to be tried again. It may change with every event.
    pub fn next_tick(&self) -> Option<Instant> {
        let parse = self.entries.values().filter_map(Entry::parse_at);
        let publish = self.entries.values().filter_map(Entry::publish_at);
        parse.chain(publish.filter(|_| self.connection.is_some())).min()
    }

    /// What arrived under this key, as long as it is in flight.
    pub fn entry(&self, key: Key) -> Option<&Arrival> {
        self.entries.get(&key).map(|entry| &entry.arrival)
    }

    /// Utterances without an answer that the broker has taken. A graceful stop feeds no more arrivals and waits until
    /// there are none; by then every acknowledgement has been handed out.
    pub fn in_flight(&self) -> usize {
        self.entries.values().filter(|entry| !entry.is_answered()).count()
    }

    /// Since when the oldest of them has been here.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.entries.values().find(|entry| !entry.is_answered()).map(|entry| entry.since)
    }

    /// Whether the broker has refused a message that is yet to be tried again: not ready meanwhile.
    pub fn is_refused(&self) -> bool {
        self.entries.values().any(Entry::is_refused)
    }

    /// The connection that the last [`on_connected`](Self::on_connected) began.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}
