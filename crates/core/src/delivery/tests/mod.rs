//! Each rule by its name. What the rules make together is checked in `model`.

mod arrivals;
mod reconnects;
mod refusals;

use std::time::Duration;

use super::*;
use crate::{Invalid, InvalidKind, Utterance};

/// A delivery on a clock that the test moves.
struct Bench {
    delivery: Delivery<&'static str>,
    now: Instant,
}

const RECEIVE_MAXIMUM: u16 = 4;
const WINDOW: u16 = 8;

impl Bench {
    fn connected() -> Self {
        Self::with_window(WINDOW)
    }

    fn with_window(window: u16) -> Self {
        let mut bench = Self { delivery: Delivery::new(RECEIVE_MAXIMUM), now: Instant::now() };
        assert_eq!(bench.delivery.on_connected(bench.now, false, window), []);
        bench
    }

    fn arrives(&mut self, arrival: Arrival) -> Vec<Action<&'static str>> {
        self.delivery.on_arrival(self.now, arrival)
    }

    /// Arrives, and inference is asked for it.
    fn parses(&mut self, arrival: Arrival) -> Key {
        match self.arrives(arrival).as_slice() {
            [Action::Parse { key }] | [Action::Count(Counted::Qos0), Action::Parse { key }] => *key,
            other => panic!("{other:?}"),
        }
    }

    fn understood(&mut self, key: Key) -> Vec<Action<&'static str>> {
        self.delivery.on_parsed(self.now, key, Ok(vec!["intent"]))
    }

    fn failed(&mut self, key: Key, error: ParseError) -> Vec<Action<&'static str>> {
        self.delivery.on_parsed(self.now, key, Err(error))
    }

    /// Arrives, is understood and handed to the broker.
    fn publishes(&mut self, arrival: Arrival) -> Publication {
        let key = self.parses(arrival);
        let actions = self.understood(key);
        publications(&actions)[0]
    }

    fn published(&mut self, publication: Publication) -> Vec<Action<&'static str>> {
        self.delivery.on_published(self.now, publication)
    }

    fn refused(&mut self, publication: Publication) -> Vec<Action<&'static str>> {
        self.delivery.on_refused(self.now, publication, Refusal::Code(0x87))
    }

    fn reconnects(&mut self, session_present: bool) -> Vec<Action<&'static str>> {
        self.delivery.on_disconnected();
        self.delivery.on_connected(self.now, session_present, WINDOW)
    }

    /// Moves the clock to the next tick.
    fn ticks(&mut self) -> Vec<Action<&'static str>> {
        self.now = self.delivery.next_tick().expect("something is to be tried again");
        self.delivery.on_tick(self.now)
    }
}

fn said(packet: u16, text: &str) -> Arrival {
    let utterance =
        Utterance { id: format!("made up for {packet}"), text: text.to_owned(), ..Utterance::default() };
    Arrival {
        packet: Some(packet),
        duplicate: false,
        retained: false,
        topic: "intentd/home/kitchen/utterance".to_owned(),
        payload: text.as_bytes().to_vec(),
        route: 0,
        content: Ok(Accepted { utterance, sender_id: false }),
        age: None,
        max_age: None,
        attempts: 0,
        reply: Reply::default(),
    }
}

fn with_id(packet: u16, id: &str, text: &str) -> Arrival {
    let utterance = Utterance { id: id.to_owned(), text: text.to_owned(), ..Utterance::default() };
    let payload = format!("{id} {text} in packet {packet}").into_bytes();
    Arrival { payload, content: Ok(Accepted { utterance, sender_id: true }), ..said(packet, text) }
}

fn again(arrival: Arrival) -> Arrival {
    Arrival { duplicate: true, ..arrival }
}

fn elsewhere(arrival: Arrival) -> Arrival {
    Arrival { topic: "intentd/home/hall/utterance".to_owned(), ..arrival }
}

fn bad(packet: u16) -> Arrival {
    let rejection = Rejection {
        reason: Reason::BadJson,
        message: "expected an object".to_owned(),
        id: None,
        site: "home".to_owned(),
        device: "kitchen".to_owned(),
    };
    Arrival { content: Err(rejection), ..said(packet, "[1]") }
}

fn publications(actions: &[Action<&'static str>]) -> Vec<Publication> {
    let published = actions.iter().filter_map(|action| match action {
        Action::Publish { publication, .. } => Some(*publication),
        _ => None,
    });
    published.collect()
}

fn acknowledged(actions: &[Action<&'static str>]) -> Vec<u16> {
    let packets = actions.iter().filter_map(|action| match action {
        Action::Acknowledge { packet, .. } => Some(*packet),
        _ => None,
    });
    packets.collect()
}

/// The reasons of dead letters that are published.
fn dead_letters(actions: &[Action<&'static str>]) -> Vec<(Reason, u32)> {
    let letters = actions.iter().filter_map(|action| match action {
        Action::Publish { message: Outgoing::DeadLetter(letter), .. } => {
            Some((letter.reason, letter.attempts))
        }
        _ => None,
    });
    letters.collect()
}

fn counts(actions: &[Action<&'static str>], counted: Counted) -> bool {
    actions.contains(&Action::Count(counted))
}

#[test]
fn an_utterance_is_acknowledged_after_the_puback_of_its_intent() {
    let mut bench = Bench::connected();
    let key = bench.parses(said(7, "lights on"));
    let actions = bench.understood(key);
    let [Action::Publish { publication, message: Outgoing::Intent("intent"), .. }] = actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!(bench.delivery.in_flight(), 1);
    let epoch = bench.delivery.epoch();
    assert_eq!(bench.published(publication), [Action::Acknowledge { epoch, packet: 7 }]);
    assert_eq!((bench.delivery.in_flight(), bench.delivery.waiting_since()), (0, None));
}

#[test]
fn acknowledgements_leave_in_the_order_of_receipt() {
    let mut bench = Bench::connected();
    let first = bench.publishes(said(1, "one"));
    let second = bench.publishes(said(2, "two"));
    let third = bench.publishes(said(3, "three"));
    assert_eq!(acknowledged(&bench.published(third)), []);
    assert_eq!(acknowledged(&bench.published(first)), [1]);
    assert_eq!(acknowledged(&bench.published(second)), [2, 3]);
}

#[test]
fn an_utterance_with_two_messages_is_acknowledged_after_the_last() {
    let mut bench = Bench::connected();
    let key = bench.parses(said(1, "one"));
    let actions = bench.delivery.on_parsed(bench.now, key, Ok(vec!["first", "second"]));
    let both = publications(&actions);
    assert_eq!(acknowledged(&bench.published(both[1])), []);
    assert_eq!(acknowledged(&bench.published(both[0])), [1]);
}

#[test]
fn publications_beyond_the_window_wait() {
    let mut bench = Bench::with_window(2);
    let first = bench.publishes(said(1, "one"));
    bench.publishes(said(2, "two"));
    let key = bench.parses(said(3, "three"));
    assert_eq!(bench.understood(key), []);
    let actions = bench.published(first);
    assert_eq!((acknowledged(&actions), publications(&actions).len()), (vec![1], 1));
}

#[test]
fn a_device_gets_its_answers_in_the_order_of_its_utterances() {
    let mut bench = Bench::connected();
    let first = bench.parses(said(1, "one"));
    let second = bench.parses(said(2, "two"));
    let other = bench.parses(elsewhere(said(3, "three")));
    assert_eq!(bench.understood(second), [], "its predecessor is not understood yet");
    assert_eq!(publications(&bench.understood(other)).len(), 1, "another device need not wait");
    let keys: Vec<_> = bench
        .understood(first)
        .into_iter()
        .filter_map(|action| match action {
            Action::Publish { key, .. } => Some(key),
            _ => None,
        })
        .collect();
    assert_eq!(keys, [first, second]);
}

#[test]
fn a_second_or_unknown_puback_does_nothing() {
    let mut bench = Bench::connected();
    let publication = bench.publishes(said(1, "one"));
    assert_eq!(acknowledged(&bench.published(publication)), [1]);
    assert_eq!(bench.published(publication), []);
    assert_eq!(bench.refused(publication), []);
    assert_eq!(bench.published(Publication(99)), []);
}

#[test]
fn overload_makes_an_utterance_wait_and_never_refuses_it() {
    let mut bench = Bench::connected();
    let key = bench.parses(said(1, "one"));
    for _ in 0..50 {
        let overloaded = ParseError::Overloaded { retry_after: Duration::from_millis(10) };
        assert_eq!(bench.failed(key, overloaded), [Action::Count(Counted::ParsedLater)]);
        let (before, actions) = (bench.now, bench.ticks());
        assert_eq!(actions, [Action::Parse { key }]);
        assert!((Backoff::FLOOR..=Backoff::CEILING).contains(&(bench.now - before)));
    }
    assert_eq!(publications(&bench.understood(key)).len(), 1);
}

#[test]
fn an_utterance_that_inference_fails_on_is_a_dead_letter_after_three_attempts() {
    let mut bench = Bench::connected();
    let key = bench.parses(said(1, "one"));
    let fault = || ParseError::Internal("panicked".to_owned());
    for _ in 1..MAX_ATTEMPTS {
        assert_eq!(bench.failed(key, fault()), [Action::Count(Counted::ParseFailed)]);
        assert_eq!(bench.ticks(), [Action::Parse { key }]);
    }
    let actions = bench.failed(key, fault());
    assert_eq!(dead_letters(&actions), [(Reason::Poison, MAX_ATTEMPTS)]);
    assert!(counts(&actions, Counted::DeadLetter(Reason::Poison)));
    assert_eq!(acknowledged(&bench.published(publications(&actions)[0])), [1]);
}

#[test]
fn what_only_the_engine_finds_out_is_a_dead_letter_too() {
    let mut bench = Bench::connected();
    let key = bench.parses(said(1, "one"));
    let long = Invalid { field: "text", kind: InvalidKind::TooLong, message: "129 tokens".to_owned() };
    assert_eq!(dead_letters(&bench.failed(key, long.into())), [(Reason::TooLong, 0)]);
}

#[test]
fn a_late_result_does_nothing() {
    let mut bench = Bench::connected();
    let key = bench.parses(said(1, "one"));
    let publication = publications(&bench.understood(key))[0];
    assert_eq!(bench.understood(key), []);
    bench.published(publication);
    bench.publishes(said(2, "two"));
    assert_eq!(bench.understood(key), []);
}
