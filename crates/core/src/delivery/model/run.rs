//! One sequence: performs the actions of [`Delivery`] against the broker and checks each of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::broker::{Broker, Down, Identifiers, Up};
use super::said::{Class, KINDS, Kind, Said, arrival, class};
use crate::delivery::{Action, Counted, Delivery, Epoch, Ignored, Key, Outgoing, Publication, Refusal};
use crate::{Invalid, InvalidKind, ParseError};

#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) receive_maximum: u16,
    pub(super) window: u16,
    /// The broker doesn't know a receive maximum.
    pub(super) boundless: bool,
    pub(super) identifiers: Identifiers,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Say { device: u8, kind: u8, id: u8 },
    BrokerSends,
    DaemonReads,
    BrokerReads,
    BrokerAnswers { pick: u16, how: u8 },
    InferenceEnds { pick: u16, how: u8 },
    TimePasses { millis: u64 },
    Cut { read: u8, forget: bool },
    Connect,
    BrokerRepeats { pick: u16 },
}

#[derive(Debug)]
pub(super) struct Run {
    setting: Setting,
    now: Instant,
    delivery: Delivery<String>,
    broker: Broker<Publication>,
    connected: bool,
    session_lost: bool,
    said: Vec<Said>,
    parsing: Vec<Key>,
    /// Utterances that the daemon has taken on.
    taken: BTreeMap<Class, BTreeSet<usize>>,
    /// Utterances that were acknowledged at least once.
    acknowledged: BTreeMap<Class, BTreeSet<usize>>,
    /// How often the class was answered in full.
    answers: BTreeMap<Class, usize>,
    /// Which entries an utterance has had.
    keys: BTreeMap<usize, BTreeSet<Key>>,
    /// Messages of an entry: how many there are, and how many the broker has taken or won't.
    messages: BTreeMap<Key, (usize, usize)>,
    /// Packets of this connection in the order of receipt, not acknowledged yet.
    received: VecDeque<(u16, usize)>,
    /// What was acknowledged on this connection.
    released: BTreeSet<(u16, usize)>,
    /// Publications without a PUBACK on this connection.
    in_flight: BTreeMap<Publication, (Key, Outgoing<String>)>,
    /// What was handed over on this connection and must not be again.
    handed_over: BTreeSet<(Key, String)>,
    /// Entries whose answer was handed over at least once.
    handed_over_ever: BTreeSet<Key>,
    /// Per topic, the last entry whose answer was handed over for the first time.
    order: BTreeMap<String, Key>,
}

impl Run {
    pub(super) fn new(setting: Setting) -> Self {
        let window = if setting.boundless { usize::MAX } else { usize::from(setting.receive_maximum) };
        Self {
            setting,
            now: Instant::now(),
            delivery: Delivery::new(setting.receive_maximum),
            broker: Broker::new(window, setting.identifiers),
            connected: false,
            session_lost: true,
            said: Vec::new(),
            parsing: Vec::new(),
            taken: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            answers: BTreeMap::new(),
            keys: BTreeMap::new(),
            messages: BTreeMap::new(),
            received: VecDeque::new(),
            released: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            handed_over: BTreeSet::new(),
            handed_over_ever: BTreeSet::new(),
            order: BTreeMap::new(),
        }
    }

    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Say { device, kind, id } => self.say(device, kind, id),
            Step::BrokerSends if self.connected => self.broker.send(),
            Step::DaemonReads => self.daemon_reads(),
            Step::BrokerReads => drop(self.broker.read()),
            Step::BrokerAnswers { pick, how } => self.broker_answers(pick.into(), how),
            Step::InferenceEnds { pick, how } => self.inference_ends(pick.into(), how),
            Step::TimePasses { millis } => self.time_passes(Duration::from_millis(millis)),
            Step::Cut { read, forget } => self.cut(read.into(), forget),
            Step::Connect => self.connect(),
            Step::BrokerRepeats { pick } if self.connected => self.broker.repeat(pick.into()),
            Step::BrokerSends | Step::BrokerRepeats { .. } => {}
        }
        let held = self.delivery.entries.len();
        let most = 2 * self.delivery.places();
        assert!(held <= most, "{held} entries; the bound is {most}");
    }

    /// No more faults but those of the utterances themselves: all must end well, and soon.
    pub(super) fn calm_down(mut self) {
        for _ in 0..2_000 {
            self.step(Step::Connect);
            self.step(Step::BrokerSends);
            while !self.broker.down.is_empty() {
                self.step(Step::DaemonReads);
            }
            while !self.parsing.is_empty() {
                self.step(Step::InferenceEnds { pick: 0, how: 9 });
            }
            while self.broker.read() {}
            while !self.broker.unanswered.is_empty() {
                self.step(Step::BrokerAnswers { pick: 0, how: 9 });
            }
            self.step(Step::TimePasses { millis: 30_000 });
            if self.broker.is_empty() && self.delivery.in_flight() == 0 {
                return self.check_answered();
            }
        }
        panic!("something waits for ever: {self:#?}");
    }

    fn check_answered(&self) {
        for (class, taken) in &self.taken {
            let answers = self.answers.get(class).copied().unwrap_or(0);
            let needed = if class.2.is_some() { 1 } else { taken.len() };
            assert!(answers >= needed, "{class:?} was said {needed} times and answered {answers} times");
        }
        assert!(!self.delivery.is_refused() && self.delivery.waiting_since().is_none());
        assert_eq!(self.delivery.next_tick(), None);
    }

    fn say(&mut self, device: u8, kind: u8, id: u8) {
        let kind = KINDS[usize::from(kind)];
        // Two ids, so that many are repeated; most utterances have none, and equal ones are many.
        let id = (id < 2 && !matches!(kind, Kind::Bad | Kind::BadWithReply)).then_some(id);
        let said = Said { number: self.said.len(), device, kind, id };
        self.said.push(said.clone());
        self.broker.say(said);
    }

    fn daemon_reads(&mut self) {
        match self.broker.down.pop_front() {
            None => {}
            Some(Down::Publish { packet, duplicate, said }) => self.arrives(packet, duplicate, &said),
            Some(Down::Answer { publication, refused }) => self.answered(publication, refused),
        }
    }

    fn arrives(&mut self, packet: Option<u16>, duplicate: bool, said: &Said) {
        let class = class(said);
        let actions = match said.kind {
            Kind::Unrouted => self.delivery.on_ignored(self.now, packet, Ignored::Unrouted),
            _ => self.delivery.on_arrival(self.now, arrival(packet, duplicate, said)),
        };
        let counted = |what: Counted| actions.contains(&Action::Count(what));
        if counted(Counted::LeftToBroker) || counted(Counted::Qos0Dropped) {
            return self.perform(actions);
        }
        if !matches!(said.kind, Kind::Retained | Kind::Unrouted) && !self.is_left_out(packet) {
            self.taken.entry(class).or_default().insert(said.number);
        }
        if let Some(packet) = packet
            && !self.is_left_out(Some(packet))
        {
            // The broker may send it twice on one connection, but is owed one acknowledgement.
            let slot = (packet, said.number);
            if !self.received.contains(&slot) && !self.released.contains(&slot) {
                self.received.push_back(slot);
            }
        }
        let again = self.acknowledged.get(&class).is_some_and(|known| known.contains(&said.number));
        if again && counted(Counted::Duplicate) {
            // The acknowledgement was lost: publishing again is what keeps the promise.
            let keys = self.keys.get(&said.number).cloned().unwrap_or_default();
            self.handed_over.retain(|(key, _)| !keys.contains(key));
        }
        self.perform(actions);
    }

    fn is_left_out(&self, packet: Option<u16>) -> bool {
        let connection = self.delivery.connection.as_ref();
        connection.zip(packet).is_some_and(|(connection, packet)| connection.leaves_out(packet))
    }

    fn broker_answers(&mut self, pick: usize, how: u8) {
        if self.broker.unanswered.is_empty() {
            return;
        }
        let index = pick % self.broker.unanswered.len();
        let (publication, refuse) = self.broker.unanswered.remove(index);
        let refused = refuse || how == 0;
        self.broker.down.push_back(Down::Answer { publication, refused });
        if how == 1 {
            self.broker.down.push_back(Down::Answer { publication, refused: false });
        }
    }

    fn answered(&mut self, publication: Publication, refused: bool) {
        let carried = self.in_flight.remove(&publication);
        if !refused {
            let actions = self.delivery.on_published(self.now, publication);
            if let Some((key, _)) = carried {
                self.message_done(key);
            }
            return self.perform(actions);
        }
        let actions = self.delivery.on_refused(self.now, publication, Refusal::Code(0x87));
        if let Some((key, message)) = carried {
            self.handed_over.remove(&(key, format!("{message:?}")));
            if actions.contains(&Action::Count(Counted::GivenUp)) {
                self.message_done(key);
            }
        }
        self.perform(actions);
    }

    fn message_done(&mut self, key: Key) {
        let (all, done) = self.messages.get_mut(&key).expect("the entry has messages");
        *done += 1;
        if done == all {
            *done = 0;
            let said = self.keys.iter().find(|(_, keys)| keys.contains(&key)).map(|(number, _)| *number);
            let class = class(&self.said[said.expect("the entry has an utterance")]);
            *self.answers.entry(class).or_default() += 1;
        }
    }

    fn inference_ends(&mut self, pick: usize, how: u8) {
        if self.parsing.is_empty() {
            return;
        }
        let key = self.parsing.remove(pick % self.parsing.len());
        let number = self.delivery.entry(key).expect("what is parsed is in the table").route;
        let result = match (self.said[number].kind, how) {
            (_, 0) => Err(ParseError::Overloaded { retry_after: Duration::from_millis(20) }),
            (_, 1) => Err(ParseError::Unavailable("no bundle")),
            (Kind::Poison, _) | (_, 2) => Err(ParseError::Internal("panicked".to_owned())),
            (Kind::Long, _) => {
                Err(Invalid { field: "text", kind: InvalidKind::TooLong, message: "129 tokens".to_owned() }
                    .into())
            }
            (Kind::Hermes, _) => Ok(vec!["first".to_owned(), "second".to_owned()]),
            _ => Ok(vec!["intent".to_owned()]),
        };
        if let Ok(messages) = &result {
            self.messages.insert(key, (messages.len(), 0));
        }
        let actions = self.delivery.on_parsed(self.now, key, result);
        self.perform(actions);
    }

    fn time_passes(&mut self, time: Duration) {
        self.now += time;
        if self.delivery.next_tick().is_some_and(|at| at <= self.now) {
            let actions = self.delivery.on_tick(self.now);
            self.perform(actions);
            let next = self.delivery.next_tick();
            assert!(next.is_none_or(|at| at > self.now), "a tick that leads to itself");
        }
    }

    fn cut(&mut self, read: usize, forget: bool) {
        self.broker.cut(read);
        self.delivery.on_disconnected();
        self.connected = false;
        self.received.clear();
        self.released.clear();
        self.in_flight.clear();
        self.handed_over.clear();
        if forget {
            self.broker.forget();
            self.session_lost = true;
        }
    }

    fn connect(&mut self) {
        if self.connected {
            return;
        }
        self.connected = true;
        let session_present = !std::mem::take(&mut self.session_lost);
        self.broker.resume();
        let actions = self.delivery.on_connected(self.now, session_present, self.setting.window);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action<String>>) {
        for action in actions {
            match action {
                Action::Parse { key } => self.parse(key),
                Action::Publish { publication, key, message } => self.publish(publication, key, message),
                Action::Acknowledge { epoch, packet } => self.acknowledge(epoch, packet),
                Action::Reconnect => {
                    self.cut(usize::MAX, false);
                    // What comes after it in the list belongs to the old connection.
                    return self.connect();
                }
                Action::Count(_) => {}
            }
        }
    }

    fn parse(&mut self, key: Key) {
        assert!(!self.parsing.contains(&key), "inference has it already");
        self.parsing.push(key);
        self.enters(key);
    }

    /// Notes whose entry it is. While the broker holds the packet there is one at most.
    fn enters(&mut self, key: Key) {
        let number = self.delivery.entry(key).expect("actions speak of entries in the table").route;
        let said = &self.said[number];
        let known = self.keys.entry(number).or_default();
        let was_acknowledged =
            self.acknowledged.get(&class(said)).is_some_and(|known| known.contains(&number));
        assert!(
            known.contains(&key) || known.is_empty() || was_acknowledged,
            "a second inference for {said:?}"
        );
        known.insert(key);
    }

    fn publish(&mut self, publication: Publication, key: Key, message: Outgoing<String>) {
        assert!(self.connected, "a publish without a connection");
        self.enters(key);
        let arrival = self.delivery.entry(key).expect("actions speak of entries in the table");
        let said = &self.said[arrival.route];
        let letters = 1 + usize::from(arrival.reply.topic.is_some());
        self.messages.entry(key).or_insert((letters, 0));
        let refuse = match message {
            Outgoing::Intent(_) => matches!(said.kind, Kind::IntentRefused | Kind::AllRefused),
            Outgoing::DeadLetter(_) | Outgoing::ErrorAnswer(_) => said.kind == Kind::AllRefused,
        };
        let first = self.order.entry(arrival.topic.clone()).or_insert(key);
        if self.handed_over_ever.insert(key) {
            assert!(*first <= key, "the answers of a device change places");
            *first = key;
        }
        let once = self.handed_over.insert((key, format!("{message:?}")));
        assert!(once, "{said:?} is published twice on one connection");
        self.in_flight.insert(publication, (key, message));
        assert!(self.in_flight.len() <= usize::from(self.setting.window), "the window is too small for that");
        self.broker.up.push_back(Up::Publish { publication, refuse });
    }

    fn acknowledge(&mut self, epoch: Epoch, packet: u16) {
        assert!(self.connected && epoch == self.delivery.epoch(), "an acknowledgement of another connection");
        let (next, number) = self.received.pop_front().expect("nothing is to be acknowledged");
        assert_eq!(packet, next, "acknowledgements leave in the order of receipt");
        self.released.insert((packet, number));
        let said = &self.said[number];
        let class = class(said);
        let acknowledged = self.acknowledged.entry(class).or_default();
        acknowledged.insert(number);
        if !matches!(said.kind, Kind::Retained | Kind::Unrouted) {
            let answers = self.answers.get(&class).copied().unwrap_or(0);
            let needed = if said.id.is_some() { 1 } else { acknowledged.len() };
            assert!(answers >= needed, "{said:?} is acknowledged before it is answered");
        }
        self.broker.up.push_back(Up::Acknowledge { packet });
    }
}
