use intentd_core::{InvalidKind, Outcome, ParseError, Task};
use proptest::prelude::*;

use crate::{engine, parse, said};

#[test]
fn too_many_wordpieces_name_both_numbers() {
    let error = parse(&said(&"on ".repeat(200))).unwrap_err();
    let ParseError::Invalid(invalid) = &error else { panic!("{error}") };
    assert_eq!((invalid.field, invalid.kind), ("text", InvalidKind::TooLong));
    assert!(invalid.message.contains("202") && invalid.message.contains("128"), "{invalid}");
}

#[test]
fn the_longest_text_fits_and_one_more_does_not() {
    let most = engine().manifest().max_tokens - 2;
    assert_eq!(parse(&said(&"on ".repeat(most))).unwrap().effort.tokens as usize, most + 2);
    assert!(parse(&said(&"on ".repeat(most + 1))).is_err());
}

#[test]
fn tasks_that_the_bundle_lacks_are_named() {
    let mut utterance = said("lights on");
    utterance.options.tasks = vec![Task::Intent, Task::Sentiment];
    let error = parse(&utterance).unwrap_err();
    let ParseError::TaskMissing(message) = &error else { panic!("{error}") };
    assert!(message.contains("sentiment") && message.contains("intent, slots"), "{message}");
}

#[test]
fn only_the_tasks_asked_for_are_done() {
    let mut utterance = said("wake me up at 7 am");
    let both = parse(&utterance).unwrap();
    utterance.options.tasks = vec![Task::Intent];
    let intent = parse(&utterance).unwrap();
    assert_eq!((&intent.intent, intent.outcome), (&both.intent, both.outcome));
    assert!(intent.slots.is_empty());
    utterance.options.tasks = vec![Task::Slots];
    let slots = parse(&utterance).unwrap();
    assert_eq!((slots.intent, slots.alternatives), (None, vec![]));
    let expected = if slots.slots.is_empty() { Outcome::NotRecognized } else { Outcome::Recognized };
    assert_eq!((slots.outcome, slots.slots), (expected, both.slots));
}

#[test]
fn the_filter_must_know_the_intents() {
    let mut utterance = said("lights on");
    utterance.options.intent_filter = vec!["alarm_set".to_owned(), "make_coffee_fly".to_owned()];
    let error = parse(&utterance).unwrap_err();
    assert!(error.to_string().contains("options.intent_filter"), "{error}");
    assert!(error.to_string().contains("make_coffee_fly"), "{error}");
}

#[test]
fn marks_in_the_text_are_text() {
    // Were "[SEP]" one mark, this would be five tokens and the model would read two sentences.
    assert!(parse(&said("lights [SEP] on")).unwrap().effort.tokens > 5);
}

/// Spans are inside the text, on characters, in order, and both kinds of offsets mean the same place.
fn check_spans(text: &str) {
    let understanding = match parse(&said(text)) {
        Ok(understanding) => understanding,
        // Control characters, blank texts and too many wordpieces are the sender's.
        Err(ParseError::Invalid(_)) => return,
        Err(error) => panic!("{text:?}: {error}"),
    };
    let mut last = 0;
    for slot in understanding.slots {
        let (start, end) = (slot.bytes.start as usize, slot.bytes.end as usize);
        assert!(last <= start && start <= end, "{text:?}");
        assert_eq!(&text[start..end], slot.raw_value, "{text:?}");
        let chars = |bytes: usize| text[..bytes].chars().count() as u32;
        assert_eq!(slot.chars, chars(start)..chars(end), "{text:?}");
        assert!((0.0..=1.0).contains(&slot.confidence), "{text:?}");
        last = end;
    }
}

#[test]
fn odd_texts_are_answered() {
    for text in [
        "e\u{301}clair a\u{300}\u{300}\u{300}",
        "\u{200b}",
        "\u{feff}lights",
        "👨‍👩‍👧‍👦 lights 🏳️‍🌈",
        "ﬁnd Ⅷ ㎏ ½",
        "İstanbul ŉ ß ẞ",
        "مرحبا بالعالم",
        "नमस्ते",
        "ไฟ เปิด",
        "日本語",
        "\u{202e}thgil",
        "a\u{0}b",
        "...",
        "—“”—",
        "\u{fffd}\u{10ffff}",
        "ᾳ ΐ ῼ",
        "한국어",
        "x\u{308}\u{308}\u{308} y",
    ] {
        check_spans(text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered_or_refused(text in "\\PC{0,40}") {
        check_spans(&text);
    }

    #[test]
    fn any_characters_are_answered_or_refused(text in prop::collection::vec(any::<char>(), 0..24)) {
        check_spans(&text.into_iter().collect::<String>());
    }
}
