//! What only MQTT 5 has.

use rumqttc::v5::mqttbytes::v5::PublishProperties;

use super::{DEAD_LETTER, INTENT, UTTERANCE, said, trio};

fn asking(topic: &str, correlation: &'static [u8]) -> PublishProperties {
    PublishProperties {
        response_topic: Some(topic.to_owned()),
        correlation_data: Some(correlation.into()),
        ..PublishProperties::default()
    }
}

#[test]
fn an_answer_goes_where_the_sender_wants_it() {
    let (_mosquitto, daemon, mut device) = trio("");
    device.subscribe("intentd/app/7/answer");
    device.publish_with(UTTERANCE, said("a"), asking("intentd/app/7/answer", b"\0\xffdata"));
    let answer = device.receive("intentd/app/7/answer");
    assert_eq!(answer.json()["id"], "a");
    let properties = &answer.properties;
    assert_eq!(properties.correlation_data.as_deref(), Some(&b"\0\xffdata"[..]));
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));
    assert!(properties.user_properties.contains(&("id".to_owned(), "a".to_owned())), "{properties:?}");
    assert!(device.receive_within(std::time::Duration::from_millis(200), INTENT).is_none());

    // Outside the allowed prefixes, or where we listen ourselves: the route's own topic.
    for (id, forbidden) in
        [("b", "elsewhere/x"), ("c", "intentd/home/x/utterance"), ("d", "intentd/test/status")]
    {
        device.publish_with(UTTERANCE, said(id), asking(forbidden, b"7"));
        let answer = device.receive(INTENT);
        assert_eq!(answer.json()["id"], id);
        assert_eq!(answer.properties.correlation_data.as_deref(), Some(&b"7"[..]));
    }
    assert_eq!(daemon.metric("intentd_mqtt_events_total{event=\"response_topic_ignored\"}"), 3.0);
}

#[test]
fn bad_input_is_answered_with_an_error() {
    let (_mosquitto, _daemon, mut device) = trio("");
    device.subscribe("intentd/app/7/answer");
    device.publish_with(UTTERANCE, r#"{"id": "x", "text": ""}"#, asking("intentd/app/7/answer", b"7"));
    let answer = device.receive("intentd/app/7/answer");
    assert_eq!(answer.properties.correlation_data.as_deref(), Some(&b"7"[..]));
    let answer = answer.json();
    assert_eq!((answer["id"].as_str(), answer["error"]["field"].as_str()), (Some("x"), Some("text")));
    assert_eq!(answer["error"]["code"], 3, "INVALID_ARGUMENT");
    assert_eq!(device.receive(DEAD_LETTER).json()["reason"], "empty");
}

#[test]
fn the_id_may_stand_in_a_user_property() {
    let (_mosquitto, _daemon, mut device) = trio("");
    let properties = PublishProperties {
        user_properties: vec![("other".to_owned(), "no".to_owned()), ("id".to_owned(), "p-1".to_owned())],
        ..PublishProperties::default()
    };
    device.publish_with(UTTERANCE, r#"{"text": "turn on the kitchen lights"}"#, properties);
    assert_eq!(device.receive(INTENT).json()["id"], "p-1");
}

#[test]
fn a_broker_that_keeps_the_expiry_is_believed() {
    let route = format!("{}max_age = \"60s\"\n", super::JSON_ROUTE);
    let (_mosquitto, _daemon, mut device) = trio(&route);
    let old = r#"{"id": "old", "text": "turn on the kitchen lights", "timestamp": "2026-02-01T00:00:00Z"}"#;
    let expiring = PublishProperties { message_expiry_interval: Some(3600), ..PublishProperties::default() };
    device.publish_with(UTTERANCE, old, expiring);
    assert_eq!(device.receive(INTENT).json()["id"], "old");
}
