use intentd_core::utterance::{MAX_ATTRIBUTES, MAX_TEXT_BYTES};
use proptest::prelude::*;

use super::*;

const SENDER: Sender<'_> = Sender { site: "home", device: "kitchen", id: None };

fn json(payload: &str) -> Result<Decoded, Bad> {
    decode(Format::Json, payload.as_bytes(), SENDER)
}

fn reason(result: Result<Decoded, Bad>) -> (Reason, &'static str) {
    let bad = result.unwrap_err();
    (bad.reason, field_of(&bad.message).0)
}

#[test]
fn every_json_field_arrives() {
    let decoded = json(
        r#"{"id": "7", "text": "licht an", "language": "de", "session": "s", "area": "küche",
            "attributes": {"volume": "3"}, "timestamp": "2026-03-01T08:30:00+01:00", "new_field": [1, {"a": null}]}"#,
    )
    .unwrap();
    let utterance = decoded.utterance;
    assert_eq!((utterance.id.as_str(), utterance.text.as_str()), ("7", "licht an"));
    let context = utterance.context;
    assert_eq!((context.site.as_str(), context.device.as_str()), ("home", "kitchen"));
    assert_eq!(
        (context.language.as_str(), context.session.as_str(), context.area.as_str()),
        ("de", "s", "küche")
    );
    assert_eq!(context.attributes["volume"], "3");
    let seconds = decoded.said_at.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(seconds, 1_772_350_200);
}

#[test]
fn milliseconds_and_rfc_3339_are_the_same_moment() {
    let millis = json(r#"{"text": "a", "timestamp": 1772350200000}"#).unwrap();
    let rfc = json(r#"{"text": "a", "timestamp": "2026-03-01T07:30:00Z"}"#).unwrap();
    assert_eq!(millis.said_at, rfc.said_at);
}

#[test]
fn null_is_absent_and_site_in_the_payload_is_ignored() {
    let decoded = json(
        r#"{"text": "a", "id": null, "area": null, "attributes": null, "timestamp": null, "site": "other"}"#,
    );
    let decoded = decoded.unwrap();
    assert_eq!(decoded.utterance.id, "");
    assert_eq!(decoded.utterance.context.site, "home");
    assert_eq!(decoded.said_at, None);
}

#[test]
fn the_senders_id_in_the_payload_comes_before_the_property() {
    let sender = Sender { id: Some("property"), ..SENDER };
    let id = |payload: &str| decode(Format::Json, payload.as_bytes(), sender).unwrap().utterance.id;
    assert_eq!(id(r#"{"text": "a", "id": "payload"}"#), "payload");
    assert_eq!(id(r#"{"text": "a"}"#), "property");
    assert_eq!(decode(Format::Text, b"a", sender).unwrap().utterance.id, "property");
}

#[test]
fn each_mistake_names_its_field() {
    let cases = [
        ("{\"text\": \"a\"", Reason::BadJson, "payload"),
        ("[\"text\"]", Reason::BadJson, "payload"),
        ("{}", Reason::BadJson, "text"),
        (r#"{"text": 7}"#, Reason::BadJson, "text"),
        (r#"{"text": "a", "id": {}}"#, Reason::BadJson, "id"),
        (r#"{"text": "a", "attributes": {"a": 1}}"#, Reason::BadJson, "attributes"),
        (r#"{"text": "a", "timestamp": "yesterday"}"#, Reason::BadJson, "timestamp"),
        (r#"{"text": "a", "timestamp": -1}"#, Reason::BadJson, "timestamp"),
        (r#"{"text": "a\u0000b"}"#, Reason::BadJson, "text"),
        (r#"{"text": "  "}"#, Reason::Empty, "text"),
        ("", Reason::Empty, "payload"),
        (" \n", Reason::Empty, "payload"),
    ];
    for (payload, kind, field) in cases {
        assert_eq!(reason(json(payload)), (kind, field), "{payload}");
    }
}

#[test]
fn a_bad_message_keeps_the_id_that_could_be_read() {
    assert_eq!(json(r#"{"id": "7", "text": 1}"#).unwrap_err().id, "7");
    assert_eq!(json(r#"{"id": "7", "text": ""}"#).unwrap_err().id, "7");
    let sender = Sender { id: Some("8"), ..SENDER };
    assert_eq!(decode(Format::Text, b"\xff", sender).unwrap_err().id, "8");
    assert_eq!(json(r#"{"id": "\u0007", "text": ""}"#).unwrap_err().id, "");
}

#[test]
fn limits_hold_to_the_byte() {
    let text = "a".repeat(MAX_TEXT_BYTES);
    assert!(decode(Format::Text, text.as_bytes(), SENDER).is_ok());
    assert!(json(&format!(r#"{{"text": "{text}"}}"#)).is_ok());
    let longer = "a".repeat(MAX_TEXT_BYTES + 1);
    assert_eq!(reason(decode(Format::Text, longer.as_bytes(), SENDER)), (Reason::TooLong, "text"));
    assert_eq!(reason(json(&format!(r#"{{"text": "{longer}"}}"#))), (Reason::TooLong, "text"));
    let padded = format!(r#"{{"text": "a"}}{}"#, " ".repeat(MAX_PAYLOAD_BYTES));
    assert_eq!(reason(json(&padded)), (Reason::TooLong, "payload"));
    let many: Vec<String> = (0..=MAX_ATTRIBUTES).map(|i| format!(r#""{i}": """#)).collect();
    let many = format!(r#"{{"text": "a", "attributes": {{{}}}}}"#, many.join(","));
    assert_eq!(reason(json(&many)), (Reason::TooLong, "context.attributes"));
}

#[test]
fn deep_nesting_is_refused_before_it_is_parsed() {
    let nested =
        |depth: usize| format!(r#"{{"text": "a", "x": {}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(json(&nested(7)).is_ok());
    assert_eq!(reason(json(&nested(8))), (Reason::BadJson, "payload"));
    assert_eq!(reason(json(&nested(20_000))), (Reason::BadJson, "payload"));
}

#[test]
fn text_must_be_plain_utf8() {
    assert_eq!(reason(decode(Format::Text, b"caf\xe9", SENDER)), (Reason::BadUtf8, "payload"));
    assert_eq!(reason(decode(Format::Text, b"a\0b", SENDER)), (Reason::BadUtf8, "text"));
    assert_eq!(reason(decode(Format::Text, b"", SENDER)), (Reason::Empty, "text"));
    assert_eq!(decode(Format::Text, "灯を消して".as_bytes(), SENDER).unwrap().utterance.text, "灯を消して");
}

#[test]
fn age_is_unknown_where_a_clock_is_implausible() {
    let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let now = at(1_772_350_200);
    assert_eq!(age(now - Duration::from_secs(90), now), Some(Duration::from_secs(90)));
    assert_eq!(age(now + Duration::from_secs(90), now), Some(Duration::ZERO));
    assert_eq!(age(at(0), now), None);
    assert_eq!(age(now, at(60)), None);
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer_within_the_limits(payload in proptest::collection::vec(any::<u8>(), 0..512)) {
        for format in [Format::Json, Format::Text] {
            if let Ok(decoded) = decode(format, &payload, SENDER) {
                prop_assert_eq!(decoded.utterance.validate(), Ok(()));
            }
        }
    }

    #[test]
    fn any_text_survives_json(text in "\\PC{1,64}") {
        prop_assume!(!text.trim().is_empty());
        let payload = serde_json::json!({ "text": text, "id": "7" }).to_string();
        prop_assert_eq!(json(&payload).unwrap().utterance.text, text);
    }
}

/// Found by fuzzing: too long an id was echoed when the rest of the object was bad as well.
#[test]
fn an_id_that_must_not_be_echoed_is_left_out_whatever_else_is_wrong() {
    let sender = Sender { site: "home", device: "kitchen", id: Some("property") };
    for rest in ["", r#", "text": 7"#, r#", "text": "on", "timestamp": []"#] {
        let payload = format!(r#"{{"id": "{}"{rest}}}"#, "9".repeat(300));
        let bad = decode(Format::Json, payload.as_bytes(), sender).unwrap_err();
        assert_eq!(bad.id, "property", "{rest}");
    }
}
