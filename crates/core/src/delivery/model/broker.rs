//! A broker with one session of ours, QoS 1, and a network that loses what is on its way when it is cut.

use std::collections::VecDeque;

use super::said::{Kind, Said};

/// How packet identifiers are given.
#[derive(Clone, Copy, Debug)]
pub(super) enum Identifiers {
    /// As soon as one is free it is used again: the hard case.
    LowestFree,
    Counting,
}

/// From the broker to the daemon.
#[derive(Clone, Debug)]
pub(super) enum Down<P> {
    Publish { packet: Option<u16>, duplicate: bool, said: Said },
    Answer { publication: P, refused: bool },
}

/// From the daemon to the broker.
#[derive(Clone, Debug)]
pub(super) enum Up<P> {
    Publish { publication: P, refuse: bool },
    Acknowledge { packet: u16 },
}

#[derive(Debug)]
pub(super) struct Broker<P> {
    identifiers: Identifiers,
    /// Most packets in flight to the daemon.
    window: usize,
    last_packet: u16,
    waiting: VecDeque<Said>,
    in_flight: Vec<(u16, Said)>,
    /// Publishes of the daemon that have no PUBACK yet, and whether they will be refused.
    pub(super) unanswered: Vec<(P, bool)>,
    pub(super) down: VecDeque<Down<P>>,
    pub(super) up: VecDeque<Up<P>>,
}

impl<P: Copy> Broker<P> {
    pub(super) fn new(window: usize, identifiers: Identifiers) -> Self {
        Self {
            identifiers,
            window,
            last_packet: 0,
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            unanswered: Vec::new(),
            down: VecDeque::new(),
            up: VecDeque::new(),
        }
    }

    pub(super) fn say(&mut self, said: Said) {
        self.waiting.push_back(said);
    }

    /// Sends the next utterance, if the window allows.
    pub(super) fn send(&mut self) {
        if self.in_flight.len() >= self.window {
            return;
        }
        let Some(said) = self.waiting.pop_front() else { return };
        let packet = (said.kind != Kind::Qos0).then(|| self.identifier());
        if let Some(packet) = packet {
            self.in_flight.push((packet, said.clone()));
        }
        self.down.push_back(Down::Publish { packet, duplicate: false, said });
    }

    /// Sends one in flight again on the same connection, as some brokers do.
    pub(super) fn repeat(&mut self, pick: usize) {
        if !self.in_flight.is_empty() {
            let (packet, said) = self.in_flight[pick % self.in_flight.len()].clone();
            // For what no route knows, the link doesn't tell a repetition from a new message.
            if said.kind == Kind::Unrouted {
                return;
            }
            // Never before the first time has been sent, and that is in front of it in the same queue.
            self.down.push_back(Down::Publish { packet: Some(packet), duplicate: true, said });
        }
    }

    /// Reads one packet of the daemon.
    pub(super) fn read(&mut self) -> bool {
        match self.up.pop_front() {
            None => return false,
            Some(Up::Publish { publication, refuse }) => self.unanswered.push((publication, refuse)),
            Some(Up::Acknowledge { packet }) => {
                let known = self.in_flight.iter().position(|(id, _)| *id == packet);
                let known = known.expect("an acknowledgement of a packet that is not in flight");
                self.in_flight.remove(known);
            }
        }
        true
    }

    /// The connection is gone after the broker has read some more of it.
    pub(super) fn cut(&mut self, read: usize) {
        for _ in 0..read.min(self.up.len()) {
            self.read();
        }
        self.down.clear();
        self.up.clear();
        self.unanswered.clear();
    }

    /// Loses the session with all it holds.
    pub(super) fn forget(&mut self) {
        self.last_packet = 0;
        self.in_flight.clear();
        self.waiting.clear();
    }

    /// Sends again what is in flight, in the old order and before anything else.
    pub(super) fn resume(&mut self) {
        for (packet, said) in &self.in_flight {
            let said = said.clone();
            self.down.push_back(Down::Publish { packet: Some(*packet), duplicate: true, said });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty() && self.down.is_empty() && self.up.is_empty()
    }

    fn identifier(&mut self) -> u16 {
        let taken = |id: u16| self.in_flight.iter().any(|(other, _)| *other == id);
        let first = match self.identifiers {
            Identifiers::LowestFree => 1,
            Identifiers::Counting => self.last_packet + 1,
        };
        let free = (first..).find(|id| !taken(*id)).expect("an identifier is free");
        self.last_packet = free;
        free
    }
}
