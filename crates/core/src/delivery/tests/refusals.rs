//! A broker that takes the utterance but not its answer.

use super::*;

/// Refuses until the message isn't tried again; how often that was, and the actions of the last time.
fn refuse(bench: &mut Bench, mut publication: Publication) -> (u32, Vec<Action<&'static str>>) {
    for tries in 1.. {
        let before = bench.now;
        let actions = bench.refused(publication);
        assert!(counts(&actions, Counted::Refused));
        if bench.delivery.next_tick().is_none() {
            return (tries, actions);
        }
        assert!(bench.delivery.is_refused(), "not ready meanwhile");
        publication = publications(&bench.ticks())[0];
        let most = Backoff::FLOOR * 2_u32.pow(tries);
        assert!((Backoff::FLOOR..=most).contains(&(bench.now - before)));
    }
    unreachable!("it ends")
}

#[test]
fn a_refused_intent_is_tried_five_times_and_then_a_dead_letter() {
    let mut bench = Bench::connected();
    let publication = bench.publishes(said(1, "one"));
    let (tries, actions) = refuse(&mut bench, publication);
    assert_eq!((tries, dead_letters(&actions)), (5, vec![(Reason::PublishRefused, 5)]));
    assert!(counts(&actions, Counted::DeadLetter(Reason::PublishRefused)));
    assert!(!bench.delivery.is_refused());
    assert_eq!(acknowledged(&bench.published(publications(&actions)[0])), [1]);
}

#[test]
fn a_refused_dead_letter_is_given_up_and_the_utterance_acknowledged() {
    let mut bench = Bench::connected();
    let publication = bench.publishes(said(1, "one"));
    let (_, actions) = refuse(&mut bench, publication);
    let (tries, actions) = refuse(&mut bench, publications(&actions)[0]);
    assert_eq!(tries, 5);
    assert!(counts(&actions, Counted::GivenUp));
    assert_eq!(acknowledged(&actions), [1]);
    assert_eq!(bench.delivery.in_flight(), 0);
}

#[test]
fn one_refusal_does_not_hold_up_the_window() {
    let mut bench = Bench::with_window(1);
    let publication = bench.publishes(said(1, "one"));
    let key = bench.parses(said(2, "two"));
    assert_eq!(bench.understood(key), []);
    let actions = bench.refused(publication);
    assert_eq!(publications(&actions).len(), 1, "the next takes its place while it rests");
    bench.published(publications(&actions)[0]);
    assert_eq!(publications(&bench.ticks()).len(), 1);
}

#[test]
fn a_refusal_that_ends_well_counts_no_more() {
    let mut bench = Bench::connected();
    let publication = bench.publishes(said(1, "one"));
    bench.refused(publication);
    assert!(bench.delivery.is_refused());
    let publication = publications(&bench.ticks())[0];
    assert_eq!(acknowledged(&bench.published(publication)), [1]);
    assert!(!bench.delivery.is_refused());
}

#[test]
fn a_message_that_is_too_large_says_so_in_its_dead_letter() {
    let mut bench = Bench::connected();
    let mut publication = bench.publishes(said(1, "one"));
    let large = Refusal::TooLarge { bytes: 300, limit: 268 };
    for _ in 1..5 {
        bench.delivery.on_refused(bench.now, publication, large);
        publication = publications(&bench.ticks())[0];
    }
    let actions = bench.delivery.on_refused(bench.now, publication, large);
    let Some(Action::Publish { message: Outgoing::DeadLetter(letter), .. }) = actions.last() else {
        panic!("{actions:?}")
    };
    assert!(letter.message.contains("300") && letter.message.contains("268"), "{}", letter.message);
}

#[test]
fn what_was_too_large_to_be_sent_proves_nothing() {
    let mut bench = Bench::connected();
    let publication = bench.publishes(said(1, "one"));
    assert_eq!(acknowledged(&bench.published(publication)), [1]);
    let publication = bench.publishes(said(2, "two"));
    bench.delivery.on_refused(bench.now, publication, Refusal::TooLarge { bytes: 300, limit: 268 });
    assert_eq!(bench.delivery.entries.len(), 2, "the acknowledgement may still be lost");
    let publication = publications(&bench.ticks())[0];
    bench.refused(publication);
    assert_eq!(bench.delivery.entries.len(), 1, "the broker has answered after it");
}

#[test]
fn two_refused_messages_of_one_utterance_make_one_dead_letter() {
    let mut bench = Bench::connected();
    let key = bench.parses(said(1, "one"));
    let both = publications(&bench.delivery.on_parsed(bench.now, key, Ok(vec!["first", "second"])));
    let mut refused = both;
    let (mut letters, mut dead_letter) = (0, None);
    for _ in 0..5 {
        for publication in std::mem::take(&mut refused) {
            let actions = bench.refused(publication);
            letters += dead_letters(&actions).len();
            dead_letter = dead_letter.or(publications(&actions).first().copied());
        }
        while bench.delivery.next_tick().is_some() {
            refused.extend(publications(&bench.ticks()));
        }
    }
    assert_eq!(letters, 1);
    assert_eq!(acknowledged(&bench.published(dead_letter.unwrap())), [1]);
}

#[test]
fn a_refused_message_rests_over_a_reconnect() {
    let mut bench = Bench::connected();
    let publication = bench.publishes(said(1, "one"));
    bench.refused(publication);
    bench.delivery.on_disconnected();
    assert_eq!(bench.delivery.next_tick(), None, "without a broker there is nothing to try");
    assert_eq!(bench.delivery.on_connected(bench.now, true, WINDOW), []);
    assert_eq!(publications(&bench.ticks()).len(), 1);
}
