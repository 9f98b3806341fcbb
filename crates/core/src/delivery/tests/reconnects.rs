//! What survives a connection, and what doesn't.

use super::*;

#[test]
fn what_the_broker_has_not_acknowledged_is_published_again_on_every_connection() {
    let mut bench = Bench::connected();
    bench.publishes(said(1, "one"));
    for session_present in [true, true, false, false] {
        let actions = bench.reconnects(session_present);
        assert_eq!(publications(&actions).len(), 1);
        assert!(counts(&actions, Counted::PublishedAgain));
    }
}

#[test]
fn a_puback_of_an_older_connection_is_not_believed() {
    let mut bench = Bench::connected();
    let stale = bench.publishes(said(1, "one"));
    let fresh = publications(&bench.reconnects(true))[0];
    bench.arrives(again(said(1, "one")));
    assert_eq!(bench.published(stale), []);
    assert_eq!(acknowledged(&bench.published(fresh)), [1]);
}

#[test]
fn a_redelivery_joins_its_entry_and_is_acknowledged_on_the_new_connection() {
    let mut bench = Bench::connected();
    let key = bench.parses(said(1, "one"));
    assert_eq!(bench.reconnects(true), []);
    assert_eq!(bench.arrives(again(said(1, "one"))), [Action::Count(Counted::Duplicate)]);
    let publication = publications(&bench.understood(key))[0];
    let epoch = bench.delivery.epoch();
    assert_eq!(bench.published(publication), [Action::Acknowledge { epoch, packet: 1 }]);
    assert_eq!(epoch, Epoch(2));
}

#[test]
fn no_acknowledgement_of_an_older_connection_is_sent() {
    let mut bench = Bench::connected();
    bench.publishes(said(1, "one"));
    let publication = publications(&bench.reconnects(true))[0];
    assert_eq!(bench.published(publication), [], "the packet has not come again");
    assert_eq!(acknowledged(&bench.arrives(again(said(1, "one")))), [1], "now it has, and is answered");
}

#[test]
fn an_answer_is_not_published_twice_for_an_acknowledgement_that_never_left() {
    let mut bench = Bench::connected();
    let first = bench.parses(said(1, "one"));
    let second = bench.publishes(elsewhere(said(2, "two")));
    assert_eq!(bench.published(second), [], "it waits for its turn");
    bench.reconnects(true);
    bench.arrives(again(said(1, "one")));
    let actions = bench.arrives(again(elsewhere(said(2, "two"))));
    assert_eq!(actions, [Action::Count(Counted::Duplicate)]);
    let publication = publications(&bench.understood(first))[0];
    assert_eq!(acknowledged(&bench.published(publication)), [1, 2]);
}

#[test]
fn a_lost_session_leaves_the_answer_due_but_not_the_acknowledgement() {
    let mut bench = Bench::connected();
    bench.publishes(said(1, "one"));
    let publication = publications(&bench.reconnects(false))[0];
    let other = bench.parses(elsewhere(said(1, "one")));
    assert_eq!(bench.published(publication), []);
    assert_eq!(bench.delivery.entries.keys().collect::<Vec<_>>(), [&other]);
}

#[test]
fn after_a_lost_session_an_equal_packet_is_a_new_utterance() {
    let mut bench = Bench::connected();
    bench.parses(said(1, "lights on"));
    bench.reconnects(false);
    bench.parses(said(1, "lights on"));
    bench.delivery.on_disconnected();
    assert_eq!(bench.delivery.in_flight(), 2);
}

#[test]
fn a_lost_acknowledgement_brings_the_same_answer_without_inference() {
    let mut bench = Bench::connected();
    let publication = bench.publishes(said(1, "one"));
    assert_eq!(acknowledged(&bench.published(publication)), [1]);
    bench.reconnects(true);
    let redelivered = Arrival {
        content: Ok(Accepted {
            utterance: Utterance { id: "another made-up id".to_owned(), ..Utterance::default() },
            sender_id: false,
        }),
        ..again(said(1, "one"))
    };
    let actions = bench.arrives(redelivered);
    let [Action::Count(Counted::Duplicate), Action::Count(Counted::PublishedAgain), publish] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    let Action::Publish { publication, key, message: Outgoing::Intent("intent") } = publish else {
        panic!("{publish:?}")
    };
    assert_eq!(bench.delivery.entry(*key), Some(&said(1, "one")), "it keeps its id");
    assert_eq!(acknowledged(&bench.published(*publication)), [1]);
}

#[test]
fn a_lost_acknowledgement_of_two_packets_publishes_once() {
    let mut bench = Bench::connected();
    let key = bench.parses(with_id(1, "a", "lights on"));
    bench.arrives(with_id(2, "a", "lights on"));
    let publication = publications(&bench.understood(key))[0];
    assert_eq!(acknowledged(&bench.published(publication)), [1, 2]);
    bench.reconnects(true);
    let publication = publications(&bench.arrives(again(with_id(1, "a", "lights on"))))[0];
    assert_eq!(bench.arrives(again(with_id(2, "a", "lights on"))), [Action::Count(Counted::Duplicate)]);
    assert_eq!(acknowledged(&bench.published(publication)), [1, 2]);
}

#[test]
fn a_joined_duplicate_is_known_by_its_own_packet() {
    let mut bench = Bench::connected();
    let blocking = bench.parses(elsewhere(said(9, "first in the order")));
    let key = bench.parses(with_id(1, "a", "lights on"));
    bench.arrives(with_id(2, "a", "lights on"));
    let publication = publications(&bench.understood(key))[0];
    assert_eq!(bench.published(publication), []);
    bench.reconnects(true);
    for redelivered in
        [elsewhere(said(9, "first in the order")), with_id(1, "a", "lights on"), with_id(2, "a", "lights on")]
    {
        assert_eq!(bench.arrives(again(redelivered)), [Action::Count(Counted::Duplicate)]);
    }
    let publication = publications(&bench.understood(blocking))[0];
    assert_eq!(acknowledged(&bench.published(publication)), [9, 1, 2]);
}

#[test]
fn an_acknowledgement_has_arrived_when_the_broker_answers_what_was_sent_after_it() {
    let mut bench = Bench::connected();
    let before = bench.publishes(said(1, "one"));
    let crossing = bench.publishes(said(2, "two"));
    assert_eq!(acknowledged(&bench.published(before)), [1]);
    assert_eq!(acknowledged(&bench.published(crossing)), [2]);
    assert_eq!(bench.delivery.entries.len(), 2, "both were published before the acknowledgements");
    let after = bench.publishes(said(3, "three"));
    bench.published(after);
    assert_eq!(bench.delivery.entries.len(), 1, "only the last acknowledgement may still be lost");
    bench.reconnects(true);
    bench.parses(again(said(1, "one")));
}

#[test]
fn what_is_sent_anew_ends_the_redeliveries() {
    let mut bench = Bench::connected();
    let (first, second) = (bench.publishes(said(1, "one")), bench.publishes(said(2, "two")));
    bench.published(first);
    let second_again = publications(&bench.reconnects(true))[0];
    assert_ne!(second, second_again);
    bench.published(second_again);
    assert_eq!(bench.delivery.entries.len(), 2, "both may come again");
    let key = bench.parses(said(3, "three"));
    assert_eq!(bench.delivery.entries.keys().collect::<Vec<_>>(), [&key]);
    bench.parses(again(said(1, "one")));
    bench.parses(again(said(2, "two")));
}

#[test]
fn answers_that_nobody_asks_for_again_give_up_their_places() {
    let mut bench = Bench::connected();
    let places = u16::try_from(bench.delivery.places()).unwrap();
    let first = bench.parses(elsewhere(said(1, "first in the order")));
    for packet in 2..=places {
        let publication = bench.publishes(said(packet, "x"));
        assert_eq!(bench.published(publication), []);
    }
    bench.reconnects(true);
    let publication = publications(&bench.understood(first))[0];
    assert_eq!(bench.published(publication), [], "its packet has not come again");
    assert_eq!((bench.delivery.in_flight(), bench.delivery.held()), (0, bench.delivery.places()));
    bench.parses(again(said(places + 1, "from a life before this one")));
}

#[test]
fn what_is_kept_for_redeliveries_is_bounded() {
    let mut bench = Bench::connected();
    for packet in 1..100 {
        let publication = bench.publishes(again(said(packet, "one")));
        assert_eq!(acknowledged(&bench.published(publication)), [packet]);
        bench.reconnects(true);
        assert!(bench.delivery.entries.len() <= bench.delivery.places());
    }
}

#[test]
fn inference_goes_on_without_a_broker() {
    let mut bench = Bench::connected();
    let key = bench.parses(said(1, "one"));
    bench.delivery.on_disconnected();
    assert_eq!(bench.failed(key, ParseError::Unavailable("no bundle")).len(), 1);
    assert_eq!(bench.ticks(), [Action::Parse { key }]);
    assert_eq!(bench.understood(key), []);
    assert_eq!(publications(&bench.delivery.on_connected(bench.now, true, WINDOW)).len(), 1);
}
