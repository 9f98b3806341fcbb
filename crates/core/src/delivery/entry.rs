//! One utterance in flight: what arrived, which packets of the broker stand for it, and how far its answer is.

use std::time::Instant;

use super::action::{Counted, Epoch, Letter, Outgoing, Publication, Refusal};
use super::arrival::{Arrival, Reason};
use super::backoff::Backoff;

/// Refusals after which the broker is believed.
pub(super) const MAX_REFUSALS: u32 = 5;

#[derive(Clone, Debug)]
pub(super) struct Entry<M> {
    pub(super) arrival: Arrival,
    pub(super) since: Instant,
    /// What the broker still holds for this utterance, as far as we know: one packet, more where the sender repeated
    /// itself, none for QoS 0 or after the broker forgot the session.
    pub(super) packets: Vec<Packet>,
    pub(super) stage: Stage<M>,
    /// Failures of inference.
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) id: u16,
    /// None: the broker must keep the identifier for this utterance. Else the acknowledgement was sent but may be
    /// lost, so that the packet comes again.
    pub(super) acknowledged: Option<Acknowledged>,
}

/// When an acknowledgement was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    pub(super) epoch: Epoch,
    /// The first publication after it: its PUBACK proves that the broker has read the acknowledgement before it.
    pub(super) before: Publication,
}

#[derive(Clone, Debug)]
pub(super) enum Stage<M> {
    /// Handed to inference.
    Parsing,
    /// Inference gave it back; it is handed over again then.
    ParseAgain(Instant),
    /// There is an answer; the utterance is answered when every message is done.
    Answering(Vec<Message<M>>),
}

#[derive(Clone, Debug)]
pub(super) struct Message<M> {
    pub(super) outgoing: Outgoing<M>,
    pub(super) progress: Progress,
    /// It has been handed over before, on this connection or another.
    pub(super) handed_over: bool,
    pub(super) refusals: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// For room in the window.
    Waiting,
    /// For the end of the back-off after a refusal.
    Resting(Instant),
    /// With the broker.
    InFlight,
    /// Taken by the broker, or given up.
    Done,
}

impl<M> Message<M> {
    pub(super) fn new(outgoing: Outgoing<M>) -> Self {
        Self { outgoing, progress: Progress::Waiting, handed_over: false, refusals: Backoff::default() }
    }
}

impl<M> Entry<M> {
    pub(super) fn new(arrival: Arrival, since: Instant) -> Self {
        let packets = arrival.packet.map(Packet::held).into_iter().collect();
        let attempts = arrival.attempts;
        Self { arrival, since, packets, stage: Stage::Parsing, attempts, backoff: Backoff::default() }
    }

    pub(super) fn is_answered(&self) -> bool {
        matches!(&self.stage, Stage::Answering(messages)
            if messages.iter().all(|message| message.progress == Progress::Done))
    }

    /// Still owed to the broker: an answer, or the acknowledgement after it.
    pub(super) fn is_held(&self) -> bool {
        !self.is_answered() || self.packets.iter().any(|packet| packet.acknowledged.is_none())
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(&self.stage, Stage::Answering(messages)
            if messages.iter().any(|message| message.progress != Progress::Done && message.refusals.failures() > 0))
    }

    /// The same message of the sender, not just an equal one: it gave the same id to both.
    pub(super) fn is_repeated_by(&self, arrival: &Arrival) -> bool {
        match (&self.arrival.content, &arrival.content) {
            (Ok(ours), Ok(theirs)) => {
                ours.sender_id
                    && ours == theirs
                    && self.arrival.topic == arrival.topic
                    && self.arrival.reply == arrival.reply
            }
            _ => false,
        }
    }

    /// What a packet with an identifier that we know of is.
    pub(super) fn redelivery(&self, packet: Packet, arrival: &Arrival) -> Redelivery {
        let equal = self.arrival.topic == arrival.topic && self.arrival.payload == arrival.payload;
        let known = equal || self.is_repeated_by(arrival);
        // Until we acknowledge, the broker can't use the identifier for anything else. After that, only the DUP flag
        // tells a redelivery from an equal sentence that was said anew.
        if !known || (self.is_answered() && !arrival.duplicate) {
            return Redelivery::AnotherMessage;
        }
        match packet.acknowledged {
            None => Redelivery::Held,
            Some(_) => Redelivery::AcknowledgementLost,
        }
    }

    pub(super) fn answer(&mut self, messages: impl IntoIterator<Item = Outgoing<M>>) {
        self.stage = Stage::Answering(messages.into_iter().map(Message::new).collect());
    }

    /// The answer is that there is none.
    pub(super) fn bury(&mut self, letter: Letter) -> Counted {
        let reason = letter.reason;
        // A message of our own gets no reply: that would keep a loop going.
        let told = self.arrival.reply.topic.is_some() && reason != Reason::Loop;
        let error = told.then(|| Outgoing::ErrorAnswer(letter.clone()));
        self.answer(std::iter::once(Outgoing::DeadLetter(letter)).chain(error));
        Counted::DeadLetter(reason)
    }

    /// Everything is published anew, unless it is under way.
    pub(super) fn answer_again(&mut self, now: Instant) {
        if !self.is_answered() {
            return;
        }
        self.since = now;
        if let Stage::Answering(messages) = &mut self.stage {
            messages.iter_mut().for_each(|message| message.progress = Progress::Waiting);
        }
    }

    /// The broker didn't take a message: again later, then as a dead letter, then no more.
    pub(super) fn refuse(
        &mut self,
        index: usize,
        refusal: Refusal,
        now: Instant,
        random: f64,
    ) -> Option<Counted> {
        let Stage::Answering(messages) = &mut self.stage else { return None };
        let buried = messages.iter().any(|message| matches!(message.outgoing, Outgoing::DeadLetter(_)));
        let message = messages.get_mut(index)?;
        let rest = message.refusals.next(random);
        if message.refusals.failures() < MAX_REFUSALS {
            message.progress = Progress::Resting(now + rest);
            return None;
        }
        match message.outgoing {
            Outgoing::Intent(_) if !buried => {
                let letter = Letter {
                    reason: Reason::PublishRefused,
                    message: refusal.to_string(),
                    attempts: MAX_REFUSALS,
                };
                *message = Message::new(Outgoing::DeadLetter(letter));
                Some(Counted::DeadLetter(Reason::PublishRefused))
            }
            _ => {
                message.progress = Progress::Done;
                Some(Counted::GivenUp)
            }
        }
    }

    /// The connection is gone, and what it carried is to be published again.
    pub(super) fn disconnect(&mut self) {
        if let Stage::Answering(messages) = &mut self.stage {
            for message in messages.iter_mut().filter(|message| message.progress == Progress::InFlight) {
                message.progress = Progress::Waiting;
            }
        }
    }

    /// When [`Stage::ParseAgain`] ends.
    pub(super) fn parse_at(&self) -> Option<Instant> {
        match self.stage {
            Stage::ParseAgain(at) => Some(at),
            _ => None,
        }
    }

    /// When the first back-off after a refusal ends.
    pub(super) fn publish_at(&self) -> Option<Instant> {
        let Stage::Answering(messages) = &self.stage else { return None };
        let resting = messages.iter().filter_map(|message| match message.progress {
            Progress::Resting(until) => Some(until),
            _ => None,
        });
        resting.min()
    }
}

impl Packet {
    pub(super) fn held(id: u16) -> Self {
        Self { id, acknowledged: None }
    }
}

/// What an arrival with a known packet identifier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redelivery {
    /// The broker has given the identifier to another message.
    AnotherMessage,
    /// The packet again, not acknowledged yet.
    Held,
    /// The packet again, since our acknowledgement was lost with its connection.
    AcknowledgementLost,
}
