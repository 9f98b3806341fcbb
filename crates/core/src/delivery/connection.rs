//! What lives exactly as long as one connection: the order of acknowledgements, and the publications in flight.

use std::collections::{HashMap, VecDeque};

use super::action::{Epoch, Key, Publication};

/// Acknowledged packets that are remembered: far more than can be on their way at once.
const RECENT: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) epoch: Epoch,
    /// Most publications in flight, at least one.
    pub(super) window: usize,
    /// Which message of which entry each publication carries.
    pub(super) in_flight: HashMap<Publication, (Key, usize)>,
    /// Arrivals in the order in which they must be acknowledged (MQTT-4.6.0-2).
    slots: VecDeque<Slot>,
    /// The latest acknowledged packets.
    recent: VecDeque<u16>,
    reconnect_asked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    packet: u16,
    owner: Owner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// To be acknowledged after this entry's answer.
    Entry(Key),
    /// To be acknowledged in its turn.
    Nobody,
    /// Never to be acknowledged on this connection.
    LeftOut,
}

impl Connection {
    pub(super) fn new(epoch: Epoch, window: u16) -> Self {
        Self {
            epoch,
            window: usize::from(window.max(1)),
            in_flight: HashMap::new(),
            slots: VecDeque::new(),
            recent: VecDeque::new(),
            reconnect_asked: false,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < self.window
    }

    /// Takes a place in the order, unless this packet has it already.
    pub(super) fn queue(&mut self, packet: u16, owner: Owner) {
        let queued = self.slots.iter().any(|slot| slot.packet == packet && slot.owner == owner);
        if !queued {
            self.slots.push_back(Slot { packet, owner });
        }
    }

    /// Notes an arrival, and says whether the broker repeats itself while our acknowledgement is on its way, as
    /// brokers of MQTT 3.1.1 may. Acknowledging twice could hit another message that has got the identifier since.
    pub(super) fn crosses(&mut self, packet: u16, duplicate: bool) -> bool {
        if !duplicate {
            self.recent.retain(|recent| *recent != packet);
        }
        self.recent.contains(&packet) && self.slots.iter().all(|slot| slot.packet != packet)
    }

    pub(super) fn leaves_out(&self, packet: u16) -> bool {
        self.slots.iter().any(|slot| slot.packet == packet && slot.owner == Owner::LeftOut)
    }

    /// Once something was left out, nothing behind it can be acknowledged here.
    pub(super) fn is_blocked(&self) -> bool {
        self.slots.iter().any(|slot| slot.owner == Owner::LeftOut)
    }

    pub(super) fn owns(&self, key: Key) -> bool {
        self.slots.iter().any(|slot| slot.owner == Owner::Entry(key))
    }

    /// The first packet in the order, if it may be acknowledged.
    pub(super) fn release(&mut self, is_answered: impl Fn(Key) -> bool) -> Option<(u16, Owner)> {
        let front = self.slots.front()?;
        let ready = match front.owner {
            Owner::Entry(key) => is_answered(key),
            Owner::Nobody => true,
            Owner::LeftOut => false,
        };
        if !ready {
            return None;
        }
        let slot = self.slots.pop_front()?;
        self.recent.push_back(slot.packet);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        Some((slot.packet, slot.owner))
    }

    /// Nothing but what was left out waits for its acknowledgement, and no reconnect was asked for.
    pub(super) fn is_stuck(&self) -> bool {
        let stuck = self.slots.front().is_some_and(|slot| slot.owner == Owner::LeftOut);
        stuck && !self.reconnect_asked
    }

    pub(super) fn ask_reconnect(&mut self) {
        self.reconnect_asked = true;
    }
}
