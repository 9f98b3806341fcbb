//! What the daemon publishes beside intents: its status, dead letters, and errors to those who asked for an answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use intentd_core::delivery::{Arrival, Letter, Reason};
use intentd_core::{Invalid, InvalidKind, ModelRef, ParseError};
use serde_json::json;

use super::codec::{self, MAX_PAYLOAD_BYTES};
use crate::convert;

/// Where the state of a daemon stands, retained.
pub fn status_topic(gateway: &str) -> String {
    format!("intentd/{gateway}/status")
}

/// Where a daemon puts what it can't answer.
pub fn dead_letter_topic(gateway: &str) -> String {
    format!("intentd/{gateway}/dead-letter")
}

/// State of a daemon, for its status topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Online,
    Draining,
    Offline,
}

pub(super) fn status(state: State, model: &ModelRef) -> Bytes {
    let state = match state {
        State::Online => "online",
        State::Draining => "draining",
        State::Offline => "offline",
    };
    let model = json!({ "name": model.name, "version": model.version });
    json!({ "state": state, "version": env!("CARGO_PKG_VERSION"), "model": model }).to_string().into()
}

/// A dead letter. Of a payload above the limit it holds the beginning.
pub(super) fn dead_letter(arrival: &Arrival, letter: &Letter) -> Bytes {
    let (id, site, device) = origin(arrival);
    let payload = &arrival.payload[..arrival.payload.len().min(MAX_PAYLOAD_BYTES)];
    json!({
        "id": id,
        "topic": arrival.topic,
        "site": site,
        "device": device,
        "reason": letter.reason.as_str(),
        "message": letter.message,
        "attempts": letter.attempts,
        "payload_base64": BASE64.encode(payload),
    })
    .to_string()
    .into()
}

/// The answer to somebody who waits for one on a Response Topic.
pub(super) fn error_answer(arrival: &Arrival, letter: &Letter) -> Bytes {
    let (id, ..) = origin(arrival);
    convert::to_json(&convert::refusal(id.to_owned(), &as_error(letter))).into()
}

/// Id, site and device, each as far as it is known.
pub(super) fn origin(arrival: &Arrival) -> (&str, &str, &str) {
    match &arrival.content {
        Ok(accepted) => {
            let context = &accepted.utterance.context;
            (&accepted.utterance.id, &context.site, &context.device)
        }
        Err(rejection) => (rejection.id.as_deref().unwrap_or_default(), &rejection.site, &rejection.device),
    }
}

fn as_error(letter: &Letter) -> ParseError {
    let invalid = |field, kind, message: &str| {
        ParseError::Invalid(Invalid { field, kind, message: message.to_owned() })
    };
    match letter.reason {
        Reason::BadJson | Reason::BadUtf8 | Reason::Empty | Reason::TooLong => {
            let (field, message) = codec::field_of(&letter.message);
            invalid(field, InvalidKind::BadValue, message)
        }
        Reason::BadTopic => invalid("topic", InvalidKind::BadValue, &letter.message),
        Reason::Expired => invalid("timestamp", InvalidKind::BadValue, &letter.message),
        Reason::Poison | Reason::PublishRefused | Reason::Loop => {
            ParseError::Internal(letter.message.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use intentd_core::delivery::{Rejection, Reply};

    use super::*;

    fn arrival(payload: &[u8]) -> Arrival {
        let rejection = Rejection {
            reason: Reason::BadJson,
            message: "text: is missing".to_owned(),
            id: Some("7".to_owned()),
            site: "home".to_owned(),
            device: "kitchen".to_owned(),
        };
        Arrival {
            packet: Some(1),
            duplicate: false,
            retained: false,
            topic: "intentd/home/kitchen/utterance".to_owned(),
            payload: payload.to_vec(),
            route: 0,
            content: Err(rejection),
            age: None,
            max_age: None,
            attempts: 0,
            reply: Reply::default(),
        }
    }

    fn letter() -> Letter {
        Letter { reason: Reason::BadJson, message: "text: is missing".to_owned(), attempts: 0 }
    }

    #[test]
    fn a_dead_letter_has_the_contracts_fields() {
        let value: serde_json::Value =
            serde_json::from_slice(&dead_letter(&arrival(b"{}\xff"), &letter())).unwrap();
        let expected = json!({
            "id": "7", "topic": "intentd/home/kitchen/utterance", "site": "home", "device": "kitchen",
            "reason": "bad_json", "message": "text: is missing", "attempts": 0, "payload_base64": "e33/"
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn a_dead_letter_is_bounded() {
        let letter = dead_letter(&arrival(&vec![b'a'; 4 * MAX_PAYLOAD_BYTES]), &letter());
        assert!(letter.len() < 2 * MAX_PAYLOAD_BYTES, "{}", letter.len());
    }

    #[test]
    fn an_error_answer_names_the_field() {
        let value: serde_json::Value =
            serde_json::from_slice(&error_answer(&arrival(b"{}"), &letter())).unwrap();
        assert_eq!(value["id"], "7");
        assert_eq!(value["error"]["field"], "text");
        assert_eq!(value["error"]["code"], 3, "INVALID_ARGUMENT");
    }

    #[test]
    fn status_is_what_the_contract_says() {
        let model = ModelRef { name: "home-en".to_owned(), version: "1.2".to_owned() };
        let value: serde_json::Value = serde_json::from_slice(&status(State::Online, &model)).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            value,
            json!({ "state": "online", "version": version, "model": { "name": "home-en", "version": "1.2" } })
        );
    }
}
