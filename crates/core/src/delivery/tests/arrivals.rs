//! What becomes of an arrival.

use super::*;

#[test]
fn qos_0_is_answered_and_has_nothing_to_acknowledge() {
    let mut bench = Bench::connected();
    let publication = bench.publishes(Arrival { packet: None, ..said(1, "one") });
    assert_eq!(bench.published(publication), []);
    assert!(bench.delivery.entries.is_empty());
}

#[test]
fn a_flood_of_qos_0_takes_its_own_places_only() {
    let mut bench = Bench::connected();
    for _ in 0..RECEIVE_MAXIMUM {
        bench.parses(Arrival { packet: None, ..said(1, "one") });
    }
    let actions = bench.arrives(Arrival { packet: None, ..said(1, "one") });
    assert_eq!(actions, [Action::Count(Counted::Qos0), Action::Count(Counted::Qos0Dropped)]);
    for packet in 1..=RECEIVE_MAXIMUM {
        bench.parses(said(packet, "one"));
    }
}

#[test]
fn retained_and_unrouted_messages_are_counted_and_acknowledged_in_their_turn() {
    let mut bench = Bench::connected();
    let publication = bench.publishes(said(1, "one"));
    let actions = bench.arrives(Arrival { retained: true, ..said(2, "old") });
    assert_eq!(actions, [Action::Count(Counted::Ignored(Ignored::Retained))]);
    let actions = bench.delivery.on_ignored(bench.now, Some(3), Ignored::Unrouted);
    assert_eq!(actions, [Action::Count(Counted::Ignored(Ignored::Unrouted))]);
    assert_eq!(bench.delivery.on_ignored(bench.now, None, Ignored::Probe).len(), 1);
    assert_eq!(acknowledged(&bench.published(publication)), [1, 2, 3]);
}

#[test]
fn bad_input_is_a_dead_letter_with_its_reason_and_then_acknowledged() {
    let mut bench = Bench::connected();
    let actions = bench.arrives(bad(5));
    let [Action::Count(Counted::DeadLetter(Reason::BadJson)), Action::Publish { publication, key, message }] =
        &actions[..]
    else {
        panic!("{actions:?}")
    };
    let letter = Letter { reason: Reason::BadJson, message: "expected an object".to_owned(), attempts: 0 };
    assert_eq!(*message, Outgoing::DeadLetter(letter));
    assert_eq!(bench.delivery.entry(*key), Some(&bad(5)));
    assert_eq!(acknowledged(&bench.published(*publication)), [5]);
}

#[test]
fn bad_input_is_answered_at_its_response_topic_as_well() {
    let mut bench = Bench::connected();
    let reply = Reply { topic: Some("intentd/reply".to_owned()), correlation: Some(vec![0, 255]) };
    let actions = bench.arrives(Arrival { reply, ..bad(5) });
    let both = publications(&actions);
    assert!(matches!(actions[1], Action::Publish { message: Outgoing::DeadLetter(_), .. }));
    assert!(matches!(actions[2], Action::Publish { message: Outgoing::ErrorAnswer(_), .. }));
    assert_eq!(acknowledged(&bench.published(both[0])), []);
    assert_eq!(acknowledged(&bench.published(both[1])), [5]);
}

#[test]
fn a_message_of_our_own_gets_no_answer() {
    let mut bench = Bench::connected();
    let mut arrival = bad(5);
    arrival.reply.topic = Some("intentd/home/kitchen/utterance".to_owned());
    if let Err(rejection) = &mut arrival.content {
        rejection.reason = Reason::Loop;
    }
    let actions = bench.arrives(arrival);
    assert_eq!((dead_letters(&actions), publications(&actions).len()), (vec![(Reason::Loop, 0)], 1));
}

#[test]
fn too_old_an_utterance_is_a_dead_letter() {
    let limit = Some(Duration::from_secs(60));
    let mut bench = Bench::connected();
    let at_limit = Arrival { age: limit, max_age: limit, ..said(1, "one") };
    bench.parses(at_limit.clone());
    bench.parses(Arrival { age: None, packet: Some(2), ..at_limit.clone() });
    let age = Some(Duration::from_secs(61));
    let actions = bench.arrives(elsewhere(Arrival { age, packet: Some(3), ..at_limit.clone() }));
    assert_eq!(dead_letters(&actions), [(Reason::Expired, 0)]);
    bench.parses(Arrival { age, max_age: None, packet: Some(4), ..at_limit });
}

#[test]
fn an_utterance_that_the_process_died_on_three_times_is_poison() {
    let mut bench = Bench::connected();
    let actions = bench.arrives(Arrival { attempts: 3, ..said(1, "one") });
    assert_eq!(dead_letters(&actions), [(Reason::Poison, 3)]);
    let key = bench.parses(elsewhere(Arrival { attempts: 2, ..said(2, "two") }));
    let actions = bench.failed(key, ParseError::Internal("panicked".to_owned()));
    assert_eq!(dead_letters(&actions), [(Reason::Poison, 3)]);
}

#[test]
fn an_equal_sentence_is_a_new_utterance() {
    let mut bench = Bench::connected();
    bench.parses(said(1, "lights on"));
    bench.parses(said(2, "lights on"));
    assert_eq!(bench.delivery.in_flight(), 2);
}

#[test]
fn the_senders_id_makes_a_duplicate() {
    let mut bench = Bench::connected();
    let key = bench.parses(with_id(1, "a", "lights on"));
    assert_eq!(bench.arrives(with_id(2, "a", "lights on")), [Action::Count(Counted::Duplicate)]);
    let publication = publications(&bench.understood(key))[0];
    assert_eq!(acknowledged(&bench.published(publication)), [1, 2]);
}

#[test]
fn the_same_id_on_another_topic_or_with_another_text_is_no_duplicate() {
    let mut bench = Bench::connected();
    bench.parses(with_id(1, "a", "lights on"));
    bench.parses(elsewhere(with_id(2, "a", "lights on")));
    bench.parses(with_id(3, "a", "lights off"));
    let mut reply = with_id(4, "a", "lights on");
    reply.reply.topic = Some("intentd/reply".to_owned());
    bench.parses(reply);
}

#[test]
fn a_sender_that_repeats_itself_after_the_answer_is_answered_again() {
    let mut bench = Bench::connected();
    bench.parses(elsewhere(said(9, "not answered, so nothing behind it is acknowledged")));
    let publication = bench.publishes(with_id(1, "a", "lights on"));
    assert_eq!(bench.published(publication), []);
    bench.parses(with_id(2, "a", "lights on"));
}

#[test]
fn the_broker_may_repeat_itself_on_one_connection_and_gets_one_acknowledgement() {
    let mut bench = Bench::connected();
    let publication = bench.publishes(said(1, "one"));
    let duplicate = [Action::Count(Counted::Duplicate)];
    assert_eq!(bench.arrives(again(said(1, "one"))), duplicate);
    assert_eq!(acknowledged(&bench.published(publication)), [1]);
    assert_eq!(bench.arrives(again(said(1, "one"))), duplicate, "sent before the broker read it");
    bench.parses(said(1, "one"));
}

#[test]
fn a_packet_identifier_that_is_used_again_is_another_message() {
    let mut bench = Bench::connected();
    let publication = bench.publishes(said(1, "one"));
    bench.published(publication);
    let publication = bench.publishes(said(1, "one"));
    assert_eq!(acknowledged(&bench.published(publication)), [1]);
}

#[test]
fn what_exceeds_the_table_is_left_to_the_broker_and_fetched_later() {
    let mut bench = Bench::connected();
    let places = u16::try_from(bench.delivery.places()).unwrap();
    let waiting: Vec<Key> = (1..=places).map(|packet| bench.parses(said(packet, "x"))).collect();
    for packet in places + 1..places + 3 {
        assert_eq!(bench.arrives(said(packet, "x")), [Action::Count(Counted::LeftToBroker)]);
    }
    let mut asked = 0;
    for (packet, key) in (1..).zip(waiting) {
        let publication = publications(&bench.understood(key))[0];
        let actions = bench.published(publication);
        assert_eq!(acknowledged(&actions), [packet], "nothing behind what was left out");
        asked += actions.iter().filter(|action| **action == Action::Reconnect).count();
        assert_eq!(asked, usize::from(packet == places));
    }
    bench.reconnects(true);
    bench.parses(again(said(places + 1, "x")));
}

#[test]
fn nothing_arrives_without_a_connection() {
    let mut bench = Bench::connected();
    bench.delivery.on_disconnected();
    assert_eq!(bench.arrives(said(1, "one")), []);
    assert_eq!(bench.delivery.in_flight(), 0);
}
