//! The table inside [`Delivery`]: what joins an entry, what begins one, and what is due after each event.

use std::collections::HashSet;
use std::time::Instant;

use super::action::{Action, Counted, Key, Letter, Publication};
use super::arrival::{Arrival, Reason};
use super::connection::Owner;
use super::entry::{Acknowledged, Entry, Packet, Progress, Redelivery, Stage};
use super::{Delivery, MAX_ATTEMPTS};

impl<M: Clone> Delivery<M> {
    /// Whether the arrival is one that we have in the table; then it shares that entry's answer.
    pub(super) fn joins(&mut self, now: Instant, arrival: &Arrival) -> bool {
        self.joins_by_packet(now, arrival) || self.joins_by_id(arrival)
    }

    fn joins_by_packet(&mut self, now: Instant, arrival: &Arrival) -> bool {
        let (Some(connection), Some(id)) = (&mut self.connection, arrival.packet) else { return false };
        for (key, entry) in &mut self.entries {
            let Some(index) = entry.packets.iter().position(|packet| packet.id == id) else { continue };
            match entry.redelivery(entry.packets[index], arrival) {
                Redelivery::AnotherMessage => {
                    entry.packets.remove(index);
                    continue;
                }
                Redelivery::Held => connection.queue(id, Owner::Entry(*key)),
                Redelivery::AcknowledgementLost => {
                    // Nearly always the broker has the answer. But where it forgot it together with our
                    // acknowledgement, only publishing again, under the same id, keeps the promise.
                    entry.packets[index].acknowledged = None;
                    entry.answer_again(now);
                    connection.queue(id, Owner::Entry(*key));
                }
            }
            return true;
        }
        false
    }

    fn joins_by_id(&mut self, arrival: &Arrival) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        // An answered one is no help: the sender may be asking again because the answer never reached it.
        let repeated =
            self.entries.iter_mut().find(|(_, entry)| !entry.is_answered() && entry.is_repeated_by(arrival));
        let Some((key, entry)) = repeated else { return false };
        if let Some(id) = arrival.packet {
            entry.packets.push(Packet::held(id));
            connection.queue(id, Owner::Entry(*key));
        }
        true
    }

    /// Whether there is no place for a new entry.
    pub(super) fn turned_away(&mut self, arrival: &Arrival) -> Option<Counted> {
        let Some(id) = arrival.packet else {
            let waiting = self.entries.values().filter(|entry| entry.arrival.packet.is_none()).count();
            let full = waiting >= self.receive_maximum || self.held() >= self.places();
            return full.then_some(Counted::Qos0Dropped);
        };
        if !arrival.duplicate || self.held() >= self.places() {
            self.forget_redeliveries();
        }
        let full = self.held() >= self.places();
        let connection = self.connection.as_mut()?;
        // Whatever comes behind one that was left out is left out too: a device's utterances keep their order.
        (full || connection.is_blocked()).then(|| {
            connection.queue(id, Owner::LeftOut);
            Counted::LeftToBroker
        })
    }

    pub(super) fn begin(&mut self, now: Instant, arrival: Arrival) -> Action<M> {
        let key = self.next_key;
        self.next_key.0 += 1;
        if let (Some(connection), Some(id)) = (&mut self.connection, arrival.packet) {
            connection.queue(id, Owner::Entry(key));
        }
        let mut entry = Entry::new(arrival, now);
        let action = match unfit(&entry.arrival) {
            Some(letter) => Action::Count(entry.bury(letter)),
            None => Action::Parse { key },
        };
        self.entries.insert(key, entry);
        action
    }

    /// Ends every event: releases acknowledgements, lets go of what is finished, fills the window.
    pub(super) fn settle(&mut self, now: Instant, mut actions: Vec<Action<M>>) -> Vec<Action<M>> {
        self.release(&mut actions);
        self.entries.retain(|_, entry| !entry.is_answered() || !entry.packets.is_empty());
        self.publish(now, &mut actions);
        actions
    }

    fn release(&mut self, actions: &mut Vec<Action<M>>) {
        let Some(connection) = &mut self.connection else { return };
        let acknowledged = Acknowledged { epoch: connection.epoch, before: self.next_publication };
        while let Some((packet, owner)) =
            connection.release(|key| self.entries.get(&key).is_none_or(Entry::is_answered))
        {
            actions.push(Action::Acknowledge { epoch: connection.epoch, packet });
            if let Owner::Entry(key) = owner
                && let Some(entry) = self.entries.get_mut(&key)
            {
                for held in entry.packets.iter_mut().filter(|held| held.id == packet) {
                    held.acknowledged = Some(acknowledged);
                }
            }
        }
        self.forget_oldest();
        self.reconnect(actions);
    }

    /// Fetches what was left to the broker, as soon as there is room for a good part of it.
    fn reconnect(&mut self, actions: &mut Vec<Action<M>>) {
        let has_room = 2 * self.in_flight() <= self.places();
        if let Some(connection) = &mut self.connection
            && has_room
            && connection.is_stuck()
        {
            connection.ask_reconnect();
            actions.push(Action::Reconnect);
        }
    }

    fn publish(&mut self, now: Instant, actions: &mut Vec<Action<M>>) {
        let Some(connection) = &mut self.connection else { return };
        // A device's answers leave in the order of its utterances, even where inference finishes out of order.
        let mut unfinished = HashSet::new();
        for (key, Entry { arrival, stage, .. }) in &mut self.entries {
            let Stage::Answering(messages) = stage else {
                unfinished.insert(arrival.topic.as_str());
                continue;
            };
            for (index, message) in messages.iter_mut().enumerate() {
                if let Progress::Resting(until) = message.progress
                    && until <= now
                {
                    message.progress = Progress::Waiting;
                }
                let overtakes = !message.handed_over && unfinished.contains(arrival.topic.as_str());
                if message.progress != Progress::Waiting || overtakes || !connection.has_room() {
                    continue;
                }
                let publication = self.next_publication;
                self.next_publication.0 += 1;
                connection.in_flight.insert(publication, (*key, index));
                message.progress = Progress::InFlight;
                if std::mem::replace(&mut message.handed_over, true) && message.refusals.failures() == 0 {
                    actions.push(Action::Count(Counted::PublishedAgain));
                }
                actions.push(Action::Publish { publication, key: *key, message: message.outgoing.clone() });
            }
        }
    }

    pub(super) fn take_in_flight(&mut self, publication: Publication) -> Option<(Key, usize)> {
        self.connection.as_mut()?.in_flight.remove(&publication)
    }

    /// The broker answers a publication after it has read all that we sent before: these acknowledgements arrived.
    pub(super) fn prove(&mut self, publication: Publication) {
        let epoch = self.epoch;
        for entry in self.entries.values_mut() {
            entry.packets.retain(|packet| {
                packet.acknowledged.is_none_or(|sent| sent.epoch != epoch || sent.before > publication)
            });
        }
    }

    /// The broker sends again before it sends anew, so what it has not sent again by now it never will.
    fn forget_redeliveries(&mut self) {
        let Some(connection) = &self.connection else { return };
        for (key, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.is_answered()) {
            entry.packets.retain(|packet| match packet.acknowledged {
                Some(sent) => sent.epoch == connection.epoch,
                None => connection.owns(*key),
            });
        }
        self.entries.retain(|_, entry| !entry.is_answered() || !entry.packets.is_empty());
    }

    /// Acknowledged entries stay only to recognise a redelivery, so their number is bounded.
    fn forget_oldest(&mut self) {
        let kept = self.entries.values().filter(|entry| !entry.is_held()).count();
        let mut excess = kept.saturating_sub(self.places());
        self.entries.retain(|_, entry| {
            let forget = excess > 0 && !entry.is_held();
            excess -= usize::from(forget);
            !forget
        });
    }

    pub(super) fn held(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_held()).count()
    }

    /// Jitter of a back-off: no secret, only spread, and the same in every run of a test.
    pub(super) fn random(&mut self) -> f64 {
        let spread = (self.next_publication.0 ^ (self.next_key.0 << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (spread >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Why an arrival gets no inference.
fn unfit(arrival: &Arrival) -> Option<Letter> {
    if let Err(rejection) = &arrival.content {
        return Some(Letter { reason: rejection.reason, message: rejection.message.clone(), attempts: 0 });
    }
    if let (Some(age), Some(limit)) = (arrival.age, arrival.max_age)
        && age > limit
    {
        let message = format!("{} s old; the route's limit is {} s", age.as_secs(), limit.as_secs());
        return Some(Letter { reason: Reason::Expired, message, attempts: 0 });
    }
    (arrival.attempts >= MAX_ATTEMPTS).then(|| Letter {
        reason: Reason::Poison,
        message: "the process died on it".to_owned(),
        attempts: arrival.attempts,
    })
}
