use bytes::Bytes;
use intentd_core::Task;
use intentd_core::topic::Route as Topics;
use proptest::prelude::*;

use super::*;

fn routes() -> Routes {
    let route = |subscribe: &str, publish: &str, codec| Route {
        topics: Topics::new(subscribe, publish).unwrap(),
        codec,
        qos: 1,
        share: None,
        max_age: Some(Duration::from_secs(60)),
        bundle: "text-en".to_owned(),
        tasks: vec![Task::Sentiment],
    };
    Routes {
        routes: vec![
            route("intentd/{site}/{device}/utterance", "intentd/{site}/{device}/intent", Codec::Json),
            route("küche/{device}", "antwort/{device}", Codec::Text),
        ],
        response_prefixes: vec!["intentd/".to_owned(), "replies/".to_owned()],
        own: ["intentd/gw/status".to_owned(), "intentd/gw/dead-letter".to_owned()],
    }
}

fn message(topic: &str, payload: &str) -> Message {
    let payload = Bytes::from(payload.to_owned());
    Message { topic: topic.to_owned(), payload, qos: 1, packet_id: 7, ..Message::default() }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn arrive(message: Message) -> Arrival {
    match routes().inbound(message, now()) {
        Inbound::Arrival { arrival, .. } => *arrival,
        ignored @ Inbound::Ignored { .. } => panic!("{ignored:?}"),
    }
}

#[test]
fn site_and_device_come_from_the_topic() {
    let arrival =
        arrive(message("intentd/home/k-1/utterance", r#"{"text": "hi", "site": "x", "device": "y"}"#));
    let utterance = &arrival.content.as_ref().unwrap().utterance;
    let (context, options) = (&utterance.context, &utterance.options);
    assert_eq!((options.bundle.as_str(), options.tasks.as_slice()), ("text-en", &[Task::Sentiment][..]));
    assert_eq!((context.site.as_str(), context.device.as_str()), ("home", "k-1"));
    assert_eq!(routes().intent_topic(&arrival).as_deref(), Some("intentd/home/k-1/intent"));
    assert_eq!((arrival.packet, arrival.route), (Some(7), 0));
}

#[test]
fn a_topic_outside_ascii_is_no_danger() {
    let arrival = arrive(message("küche/panel", "licht an"));
    assert_eq!(arrival.content.as_ref().unwrap().utterance.text, "licht an");
    assert_eq!(routes().intent_topic(&arrival).as_deref(), Some("antwort/panel"));
    for topic in ["灯/panel", "", "intentd/home/utterance", "$SYS/a"] {
        let ignored = routes().inbound(message(topic, "hi"), now());
        assert_eq!(ignored, Inbound::Ignored { packet: Some(7), why: Ignored::Unrouted }, "{topic}");
    }
}

#[test]
fn a_device_outside_the_alphabet_is_a_bad_topic() {
    for device in ["küche", "a b", "", &"x".repeat(65)] {
        let arrival = arrive(message(&format!("intentd/home/{device}/utterance"), r#"{"text": "hi"}"#));
        assert_eq!(arrival.content.unwrap_err().reason, Reason::BadTopic, "{device}");
    }
}

#[test]
fn an_id_is_made_only_where_the_sender_gave_none() {
    let own = arrive(message("intentd/h/d/utterance", r#"{"text": "hi", "id": "mine"}"#)).content.unwrap();
    assert_eq!((own.utterance.id.as_str(), own.sender_id), ("mine", true));
    let property = Message { id: Some("property".to_owned()), ..message("küche/d", "hi") };
    let property = arrive(property).content.unwrap();
    assert_eq!((property.utterance.id.as_str(), property.sender_id), ("property", true));
    let made = arrive(message("küche/d", "hi")).content.unwrap();
    assert!(!made.sender_id && Uuid::parse_str(&made.utterance.id).is_ok());
}

#[test]
fn qos_0_has_nothing_to_acknowledge() {
    assert_eq!(arrive(Message { qos: 0, packet_id: 0, ..message("küche/d", "hi") }).packet, None);
}

#[test]
fn response_topics_are_used_only_where_they_are_allowed() {
    let answer = |topic: &str| {
        let asked = Message { response_topic: Some(topic.to_owned()), ..message("küche/d", "hi") };
        match routes().inbound(asked, now()) {
            Inbound::Arrival { arrival, response_topic_ignored } => {
                (arrival.reply.topic, response_topic_ignored)
            }
            ignored @ Inbound::Ignored { .. } => panic!("{ignored:?}"),
        }
    };
    for good in ["intentd/app/1/answer", "replies/x", "replies/ü"] {
        assert_eq!(answer(good), (Some(good.to_owned()), false));
    }
    let bad = [
        "other/x",
        "intentd/a/b/utterance",
        "intentd/+/x",
        "replies/#",
        "$SYS/x",
        "",
        "intentd/gw/status",
        "intentd/gw/dead-letter",
        "replies/\u{7}",
        "replies/\0",
    ];
    for bad in bad {
        assert_eq!(answer(bad), (None, true), "{bad:?}");
    }
}

#[test]
fn age_comes_from_the_senders_clock_unless_the_broker_keeps_it() {
    let payload = r#"{"text": "hi", "timestamp": 1799999900000}"#;
    let stamped = message("intentd/h/d/utterance", payload);
    assert_eq!(arrive(stamped.clone()).age, Some(Duration::from_secs(100)));
    let expiring = Message { expires_in: Some(Duration::from_secs(5)), ..stamped.clone() };
    assert_eq!(arrive(expiring).age, None);
    let expired = Message { expires_in: Some(Duration::ZERO), ..stamped };
    assert_eq!(arrive(expired).content.unwrap_err().reason, Reason::Expired);
}

proptest! {
    #[test]
    fn no_topic_leads_out_of_the_templates(topic in "\\PC{0,40}", response in "\\PC{0,40}") {
        let message = Message { response_topic: Some(response), ..message(&topic, "hi") };
        if let Inbound::Arrival { arrival, .. } = routes().inbound(message, now()) {
            if let Some(intent) = routes().intent_topic(&arrival) {
                prop_assert!(intent.starts_with("intentd/") || intent.starts_with("antwort/"));
                prop_assert!(valid_topic_name(&intent));
            }
            if let Some(reply) = arrival.reply.topic {
                prop_assert!(reply.starts_with("intentd/") || reply.starts_with("replies/"));
                prop_assert!(!reply.contains(['+', '#']));
            }
        }
    }
}
