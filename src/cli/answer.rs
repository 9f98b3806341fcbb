//! How an answer reads for a person.

use std::fmt::Write as _;

use pbjson_types::value::Kind;

use crate::proto::{Outcome, ParseResponse, Slot};

/// The intent, or in an answer without one the best guess, with its confidence.
pub(super) fn best(answer: &ParseResponse) -> Option<(&str, f32)> {
    let intent = answer.intent.as_ref().or(answer.alternatives.first())?;
    Some((&intent.name, intent.confidence))
}

/// `RECOGNIZED`, `UNCERTAIN`, `NOT_RECOGNIZED`, or `error`.
pub(super) fn outcome(answer: &ParseResponse) -> &'static str {
    match Outcome::try_from(answer.outcome) {
        _ if answer.error.is_some() => "error",
        Ok(Outcome::Unspecified) | Err(_) => "error",
        Ok(outcome) => outcome.as_str_name(),
    }
}

/// `time = "seven am" (07:00:00)`; the resolved value only where it differs from what was said.
pub(super) fn slot(slot: &Slot) -> String {
    let value = slot.value.as_ref().and_then(|value| value.kind.as_ref());
    let value = match value {
        Some(Kind::StringValue(text)) => text.clone(),
        Some(Kind::NumberValue(number)) => number.to_string(),
        _ => String::new(),
    };
    let mut text = format!("{} = \"{}\"", slot.name, slot.raw_value);
    if !value.is_empty() && value != slot.raw_value {
        let _ = write!(text, " ({value})");
    }
    text
}

/// `97.3 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{Error, Intent};

    #[test]
    fn a_guess_is_not_an_outcome() {
        let guess = Intent { name: "a".to_owned(), confidence: 0.25 };
        let mut answer = ParseResponse { alternatives: vec![guess], ..ParseResponse::default() };
        answer.set_outcome(Outcome::NotRecognized);
        assert_eq!((best(&answer), outcome(&answer)), (Some(("a", 0.25)), "NOT_RECOGNIZED"));
        answer.error = Some(Error::default());
        assert_eq!(outcome(&answer), "error");
    }

    #[test]
    fn a_value_is_shown_where_it_tells_something() {
        let said = |raw: &str, value: Option<pbjson_types::Value>| {
            slot(&Slot { name: "n".to_owned(), raw_value: raw.to_owned(), value, ..Slot::default() })
        };
        assert_eq!(said("kitchen", Some("kitchen".to_owned().into())), "n = \"kitchen\"");
        assert_eq!(said("seven am", Some("07:00:00".to_owned().into())), "n = \"seven am\" (07:00:00)");
        assert_eq!(said("half", Some(0.5.into())), "n = \"half\" (0.5)");
        assert_eq!(said("soon", None), "n = \"soon\"");
    }
}
