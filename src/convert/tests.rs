use std::collections::BTreeMap;

use intentd_core::{AnswerSpan, Effort, ModelRef};
use proptest::prelude::*;

use super::*;

fn parsed() -> Parsed {
    let attributes = BTreeMap::from([("wakeword".to_owned(), "hey".to_owned())]);
    Parsed {
        utterance: Utterance {
            id: "7".to_owned(),
            text: "heat the café to 21.5 degrees at half past seven".to_owned(),
            context: Context {
                site: "home".to_owned(),
                device: "mic".to_owned(),
                area: "kitchen".to_owned(),
                language: "en".to_owned(),
                session: "s1".to_owned(),
                attributes,
            },
            options: ParseOptions::default(),
        },
        understanding: Understanding {
            outcome: Outcome::Recognized,
            intent: Some(Intent { name: "ClimateSet".to_owned(), confidence: 0.975 }),
            alternatives: vec![Intent { name: "ClimateGet".to_owned(), confidence: 0.0125 }],
            slots: vec![
                Slot {
                    name: "room".to_owned(),
                    raw_value: "café".to_owned(),
                    value: None,
                    chars: 9..13,
                    bytes: 9..14,
                    confidence: 0.5,
                },
                Slot {
                    name: "temperature".to_owned(),
                    raw_value: "21.5".to_owned(),
                    value: Some(SlotValue::Number(21.5)),
                    chars: 17..21,
                    bytes: 18..22,
                    confidence: 0.75,
                },
                Slot {
                    name: "time".to_owned(),
                    raw_value: "half past seven".to_owned(),
                    value: Some(SlotValue::Text("07:30:00".to_owned())),
                    chars: 33..48,
                    bytes: 34..49,
                    confidence: 0.875,
                },
            ],
            sentiment: None,
            entities: Vec::new(),
            embedding: Vec::new(),
            effort: Effort::default(),
        },
        model: ModelRef { name: "home-en".to_owned(), version: "1.0.0".to_owned() },
        timing: Timing {
            tokens: 12,
            queue: Duration::from_micros(40),
            tokenize: Duration::from_micros(55),
            inference: Duration::from_micros(2100),
            total: Duration::from_secs(1 << 40),
        },
    }
}

/// Every field of the contract, in its order, written out.
const GOLDEN: &str = r#"{"id":"7","text":"heat the café to 21.5 degrees at half past seven","context":{"site":"home","device":"mic","area":"kitchen","language":"en","session":"s1","attributes":{"wakeword":"hey"}},"outcome":"RECOGNIZED","intent":{"name":"ClimateSet","confidence":0.975},"alternatives":[{"name":"ClimateGet","confidence":0.0125}],"slots":[{"name":"room","raw_value":"café","resolved":false,"start":9,"end":13,"start_byte":9,"end_byte":14,"confidence":0.5},{"name":"temperature","raw_value":"21.5","value":21.5,"resolved":true,"start":17,"end":21,"start_byte":18,"end_byte":22,"confidence":0.75},{"name":"time","raw_value":"half past seven","value":"07:30:00","resolved":true,"start":33,"end":48,"start_byte":34,"end_byte":49,"confidence":0.875}],"entities":[],"embedding":[],"model":{"name":"home-en","version":"1.0.0"},"timing":{"tokens":12,"queue_us":40,"tokenize_us":55,"inference_us":2100,"total_us":4294967295}}"#;

#[test]
fn the_json_form_of_an_answer_is_golden() {
    assert_eq!(to_json(&answer(&parsed())), GOLDEN);
}

#[test]
fn the_json_form_of_a_refusal_has_its_scalars_and_lists_but_no_messages() {
    let error = ParseError::Invalid(Invalid {
        field: "text",
        kind: InvalidKind::Empty,
        message: "is empty; send what was said".to_owned(),
    });
    let golden = concat!(
        r#"{"id":"7","text":"","outcome":"OUTCOME_UNSPECIFIED","alternatives":[],"slots":[],"entities":[],"#,
        r#""embedding":[],"error":{"code":3,"message":"text: is empty; send what was said","field":"text"}}"#,
    );
    assert_eq!(to_json(&refusal("7".to_owned(), &error)), golden);
}

#[test]
fn offsets_point_at_the_words_in_code_points_and_in_bytes() {
    let answer = answer(&parsed());
    for slot in &answer.slots {
        let (from, to) = (slot.start_byte as usize, slot.end_byte as usize);
        assert_eq!(answer.text[from..to], slot.raw_value);
        let words: String = answer.text.chars().take(slot.end as usize).skip(slot.start as usize).collect();
        assert_eq!(words, slot.raw_value);
    }
}

#[test]
fn without_an_intent_the_guess_stands_in_alternatives() {
    let mut parsed = parsed();
    parsed.understanding.outcome = Outcome::NotRecognized;
    parsed.understanding.intent = None;
    parsed.utterance.context = Context::default();
    let answer = answer(&parsed);
    assert_eq!(answer.outcome(), proto::Outcome::NotRecognized);
    assert_eq!((answer.intent, answer.context), (None, None));
    assert_eq!(answer.alternatives[0].name, "ClimateGet");
}

#[test]
fn an_uncertain_answer_keeps_its_intent() {
    let mut parsed = parsed();
    parsed.understanding.outcome = Outcome::Uncertain;
    let answer = answer(&parsed);
    assert_eq!(answer.outcome(), proto::Outcome::Uncertain);
    assert_eq!(answer.intent.map(|intent| intent.name).as_deref(), Some("ClimateSet"));
}

#[test]
fn a_number_without_a_json_form_is_not_resolved() {
    let mut parsed = parsed();
    parsed.understanding.slots[1].value = Some(SlotValue::Number(f64::NAN));
    let ours = answer(&parsed);
    assert_eq!((&ours.slots[1].value, ours.slots[1].resolved), (&None, false));

    let mut of_another_server = answer(&parsed);
    of_another_server.slots[0].value = Some(f64::INFINITY.into());
    assert!(to_json(&of_another_server).contains(r#""raw_value":"café","resolved":false"#));
}

#[test]
fn a_request_becomes_an_utterance() {
    let request = proto::ParseRequest {
        id: "7".to_owned(),
        text: "lights on".to_owned(),
        context: Some(proto::Context { site: "home".to_owned(), ..Default::default() }),
        options: Some(proto::ParseOptions {
            tasks: vec![2, 1, 2],
            intent_filter: vec!["TurnOn".to_owned()],
            top_k: 3,
            min_confidence: 0.5,
            bundle: "text-en".to_owned(),
        }),
    };
    let expected = Utterance {
        id: "7".to_owned(),
        text: "lights on".to_owned(),
        context: Context { site: "home".to_owned(), ..Context::default() },
        options: ParseOptions {
            tasks: vec![Task::Intent, Task::Slots],
            intent_filter: vec!["TurnOn".to_owned()],
            top_k: 3,
            min_confidence: 0.5,
            bundle: "text-en".to_owned(),
        },
    };
    assert_eq!(utterance(request), Ok(expected));
    assert_eq!(utterance(proto::ParseRequest::default()), Ok(Utterance::default()));
}

#[test]
fn what_was_asked_for_beside_intent_and_slots_is_told() {
    let mut parsed = parsed();
    parsed.understanding.sentiment = Some(Sentiment { label: "positive".to_owned(), score: 0.75 });
    let text = "21.5".to_owned();
    let entity = Entity { kind: "number".to_owned(), text, chars: 17..21, bytes: 18..22, confidence: 0.5 };
    parsed.understanding.entities = vec![entity];
    parsed.understanding.embedding = vec![0.5, -0.25];
    let expected = GOLDEN.replace(
        r#""entities":[],"embedding":[]"#,
        concat!(
            r#""entities":[{"type":"number","text":"21.5","start":17,"end":21,"start_byte":18,"end_byte":22,"confidence":0.5}],"#,
            r#""sentiment":{"label":"positive","score":0.75},"embedding":[0.5,-0.25]"#
        ),
    );
    assert_eq!(to_json(&answer(&parsed)), expected);
    let embedded = embedded(&parsed);
    assert_eq!((embedded.id.as_str(), embedded.embedding), ("7", vec![0.5, -0.25]));
    assert_eq!(embedded.model.unwrap().name, "home-en");
}

#[test]
fn an_error_names_a_field_that_its_request_has() {
    let invalid =
        |field| ParseError::Invalid(Invalid { field, kind: InvalidKind::BadValue, message: String::new() });
    let field = |error: &ParseError| not_embedded("7".to_owned(), error).error.unwrap().field;
    assert_eq!(field(&invalid("text")), "text");
    assert_eq!(field(&invalid("options.bundle")), "bundle");
    assert_eq!(field(&ParseError::TaskMissing(String::new())), "");
}

#[test]
fn an_answer_without_words_has_a_score_alone() {
    let model = ModelRef { name: "text-en".to_owned(), version: "1".to_owned() };
    let told = |span| {
        let answer = Answer { span, score: 0.625, effort: Effort::default() };
        let id = "7".to_owned();
        answered(Answered { id, answer, model: model.clone(), timing: Timing::default() })
    };
    let none = told(None);
    assert_eq!((none.id.as_str(), none.answerable, none.score), ("7", false, 0.625));
    let text = "café".to_owned();
    let some = told(Some(AnswerSpan { passage: 3, text, chars: 9..13, bytes: 9..14 }));
    assert_eq!((some.answerable, some.answer.as_str(), some.passage), (true, "café", 3));
    assert_eq!((some.start, some.end, some.start_byte, some.end_byte), (9, 13, 9, 14));
}

#[test]
fn a_task_outside_the_contract_is_named() {
    for number in [0, 6, -1, i32::MAX] {
        let options = proto::ParseOptions { tasks: vec![1, number], ..Default::default() };
        let error =
            utterance(proto::ParseRequest { options: Some(options), ..Default::default() }).unwrap_err();
        assert_eq!((error.field, error.kind), ("options.tasks", InvalidKind::BadValue));
        assert!(error.message.contains(&number.to_string()), "{error}");
    }
}

#[test]
fn each_error_has_its_code() {
    #[track_caller]
    fn check(error: &ParseError, code: Code, field: &str) {
        let status = status(error);
        assert_eq!((status.code(), status.message()), (code, error.to_string().as_str()));
        let answer = refusal("7".to_owned(), error);
        let expected =
            proto::Error { code: code.into(), message: error.to_string(), field: field.to_owned() };
        assert_eq!((answer.id.as_str(), answer.error), ("7", Some(expected)));
    }
    let too_long = Invalid { field: "id", kind: InvalidKind::TooLong, message: "257 bytes".to_owned() };
    check(&ParseError::Invalid(too_long), Code::InvalidArgument, "id");
    check(&ParseError::TaskMissing("no".to_owned()), Code::FailedPrecondition, "options.tasks");
    check(&ParseError::Overloaded { retry_after: Duration::ZERO }, Code::ResourceExhausted, "");
    check(&ParseError::DeadlineExceeded, Code::DeadlineExceeded, "");
    check(&ParseError::Unavailable("draining"), Code::Unavailable, "");
    check(&ParseError::Internal("a fault".to_owned()), Code::Internal, "");
}

#[test]
fn only_overload_tells_when_to_try_again() {
    #[track_caller]
    fn pushback(error: &ParseError) -> Option<String> {
        let status = status(error);
        status.metadata().get(RETRY_PUSHBACK).map(|value| value.to_str().unwrap().to_owned())
    }
    let overloaded =
        |millis: u64| ParseError::Overloaded { retry_after: Duration::from_micros(millis * 1000) };
    assert_eq!(pushback(&overloaded(250)).as_deref(), Some("250"));
    assert_eq!(pushback(&overloaded(0)).as_deref(), Some("1"));
    assert_eq!(pushback(&ParseError::DeadlineExceeded), None);
}

prop_compose! {
    fn any_slot()(
        name in "[a-z]{0,4}",
        raw_value in ".{0,8}",
        value in prop_oneof![
            Just(None),
            // Of 12 digits at most: serde_json writes every number exactly, but reads longer ones one bit off.
            any::<i32>().prop_map(|thousandths| Some((f64::from(thousandths) / 1000.0).into())),
            ".{0,8}".prop_map(|text| Some(text.into())),
        ],
        offsets in any::<[u32; 4]>(),
        confidence in 0.0_f32..=1.0,
    ) -> proto::Slot {
        let [start, end, start_byte, end_byte] = offsets;
        let resolved = value.is_some();
        proto::Slot { name, raw_value, value, resolved, start, end, start_byte, end_byte, confidence }
    }
}

prop_compose! {
    fn any_answer()(
        id in ".{0,8}",
        text in ".{0,16}",
        outcome in 0..4,
        slots in prop::collection::vec(any_slot(), 0..3),
        embedding in prop::collection::vec(-1.0_f32..=1.0, 0..4),
        context in prop::option::of((".{0,4}", prop::collection::btree_map(".{0,4}", ".{0,4}", 0..3))),
        timing in prop::option::of(any::<[u32; 5]>()),
        error in prop::option::of((any::<i32>(), ".{0,8}")),
    ) -> proto::ParseResponse {
        let context = context.map(|(site, attributes)| proto::Context { site, attributes, ..Default::default() });
        let timing = timing.map(|[tokens, queue_us, tokenize_us, inference_us, total_us]| {
            proto::Timing { tokens, queue_us, tokenize_us, inference_us, total_us }
        });
        let error = error.map(|(code, message)| proto::Error { code, message, ..Default::default() });
        proto::ParseResponse { id, text, outcome, slots, embedding, context, timing, error, ..Default::default() }
    }
}

proptest! {
    #[test]
    fn an_answer_survives_its_json_form(answer in any_answer()) {
        let read: proto::ParseResponse = serde_json::from_str(&to_json(&answer)).unwrap();
        prop_assert_eq!(read, answer);
    }
}
