//! What goes in: an utterance with its context, and the checks that every door applies to it.

use std::collections::BTreeMap;

/// Longest text of an utterance in bytes of UTF-8. A spoken command has tens of bytes; the limit stands
/// before the tokenizer so that no input can make it work long.
pub const MAX_TEXT_BYTES: usize = 4096;

/// Longest id, session, area or language in bytes: longer ones carry data, not identity.
pub const MAX_FIELD_BYTES: usize = 256;

/// Most attributes of one context.
pub const MAX_ATTRIBUTES: usize = 32;

/// Most alternatives that a request may ask for.
pub const MAX_TOP_K: u32 = 32;

/// One thing that somebody said, as a door hands it in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Utterance {
    /// The sender's id, echoed in the answer.
    pub id: String,
    /// What was said, UTF-8.
    pub text: String,
    /// Where and by whom it was said.
    pub context: Context,
    /// What the sender wants to know.
    pub options: ParseOptions,
}

/// Where an utterance comes from. Over MQTT, `site` and `device` come from the topic alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Home, shop or floor of a factory.
    pub site: String,
    /// Microphone, panel or button that heard it.
    pub device: String,
    /// Room of the device.
    pub area: String,
    /// BCP 47 tag of the spoken language; empty: the bundle's first.
    pub language: String,
    /// Dialogue that it belongs to.
    pub session: String,
    /// Passed through untouched.
    pub attributes: BTreeMap<String, String>,
}

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParseOptions {
    /// Heads to run; empty: intent and slots.
    pub tasks: Vec<Task>,
    /// Name of the bundle; empty: the site's own.
    pub bundle: String,
    /// Only these intents may be answered; empty: all.
    pub intent_filter: Vec<String>,
    /// How many alternatives to list beside the intent.
    pub top_k: u32,
    /// Below this confidence the outcome is NOT_RECOGNIZED, whatever the bundle says; 0: the bundle decides.
    pub min_confidence: f32,
}

/// What a head of a bundle can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// Name of what the speaker wants.
    Intent,
    /// Values inside the text that the intent needs.
    Slots,
    /// Polarity.
    Sentiment,
    /// Named entities.
    Entities,
    /// A normalised vector.
    Embedding,
    /// Answers out of passages: asked by a [`Question`](crate::Question), never about an utterance.
    Answers,
}

/// Bad input: the field, what is wrong with it, and the limit. The peer must act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field in the request, such as `text` or `context.attributes`.
    pub field: &'static str,
    /// The kind, which is also the reason of a dead letter.
    pub kind: InvalidKind,
    /// A sentence that names the limit and the remedy.
    pub message: String,
}

/// Kinds of bad input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidKind {
    /// A value outside its range or alphabet.
    BadValue,
    /// Nothing to understand.
    Empty,
    /// Over a limit of bytes, tokens or items.
    TooLong,
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl std::error::Error for Invalid {}

impl Utterance {
    /// Checks every field against its limit; the first mistake is returned.
    pub fn validate(&self) -> Result<(), Invalid> {
        check_text("text", &self.text)?;
        check_field("id", &self.id)?;
        check_field("context.site", &self.context.site)?;
        check_field("context.device", &self.context.device)?;
        check_field("context.area", &self.context.area)?;
        check_field("context.language", &self.context.language)?;
        check_field("context.session", &self.context.session)?;
        check_attributes(&self.context.attributes)?;
        check_field("options.bundle", &self.options.bundle)?;
        if self.options.tasks.contains(&Task::Answers) {
            return Err(Invalid {
                field: "options.tasks",
                kind: InvalidKind::BadValue,
                message: "answers come from passages; send a question with its passages".to_owned(),
            });
        }
        if self.options.top_k > MAX_TOP_K {
            return Err(Invalid {
                field: "options.top_k",
                kind: InvalidKind::BadValue,
                message: format!("{} alternatives asked for; the limit is {MAX_TOP_K}", self.options.top_k),
            });
        }
        if !(0.0..=1.0).contains(&self.options.min_confidence) {
            return Err(Invalid {
                field: "options.min_confidence",
                kind: InvalidKind::BadValue,
                message: format!(
                    "{} is not a probability; give a number from 0 to 1",
                    self.options.min_confidence
                ),
            });
        }
        Ok(())
    }
}

/// Checks a text that somebody said or wrote.
pub(crate) fn check_text(field: &'static str, text: &str) -> Result<(), Invalid> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(too_long(field, text.len(), MAX_TEXT_BYTES));
    }
    check_words(field, text)
}

/// That there is something to read in it.
pub(crate) fn check_words(field: &'static str, text: &str) -> Result<(), Invalid> {
    if let Some(c) = text.chars().find(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        return Err(Invalid {
            field,
            kind: InvalidKind::BadValue,
            message: format!("holds the control character U+{:04X}; send plain text", c as u32),
        });
    }
    if text.trim().is_empty() {
        return Err(Invalid { field, kind: InvalidKind::Empty, message: "is empty; send words".to_owned() });
    }
    Ok(())
}

pub(crate) fn check_field(field: &'static str, value: &str) -> Result<(), Invalid> {
    if value.len() > MAX_FIELD_BYTES {
        return Err(too_long(field, value.len(), MAX_FIELD_BYTES));
    }
    if let Some(c) = value.chars().find(|c| c.is_control()) {
        return Err(Invalid {
            field,
            kind: InvalidKind::BadValue,
            message: format!("holds the control character U+{:04X}", c as u32),
        });
    }
    Ok(())
}

fn check_attributes(attributes: &BTreeMap<String, String>) -> Result<(), Invalid> {
    if attributes.len() > MAX_ATTRIBUTES {
        return Err(Invalid {
            field: "context.attributes",
            kind: InvalidKind::TooLong,
            message: format!("{} entries; the limit is {MAX_ATTRIBUTES}", attributes.len()),
        });
    }
    for (key, value) in attributes {
        check_field("context.attributes", key)?;
        check_field("context.attributes", value)?;
    }
    Ok(())
}

pub(crate) fn too_long(field: &'static str, bytes: usize, limit: usize) -> Invalid {
    Invalid {
        field,
        kind: InvalidKind::TooLong,
        message: format!("{bytes} bytes; the limit is {limit} bytes of UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Utterance {
        Utterance { text: text.to_owned(), ..Utterance::default() }
    }

    #[test]
    fn text_limits_hold_to_the_byte() {
        assert_eq!(said(&"a".repeat(MAX_TEXT_BYTES)).validate(), Ok(()));
        let error = said(&"a".repeat(MAX_TEXT_BYTES + 1)).validate().unwrap_err();
        assert_eq!((error.field, error.kind), ("text", InvalidKind::TooLong));
        assert!(error.message.contains("4097") && error.message.contains("4096"));
    }

    #[test]
    fn white_space_alone_is_empty() {
        for text in ["", " ", "\n\t", "\u{3000}"] {
            assert_eq!(said(text).validate().unwrap_err().kind, InvalidKind::Empty, "{text:?}");
        }
    }

    #[test]
    fn control_characters_are_named() {
        let error = said("turn on\0 the light").validate().unwrap_err();
        assert!(error.message.contains("U+0000"), "{error}");
        assert_eq!(said("two\nlines").validate(), Ok(()));
    }

    #[test]
    fn options_are_checked() {
        let mut utterance = said("lights on");
        utterance.options.min_confidence = f32::NAN;
        assert_eq!(utterance.validate().unwrap_err().field, "options.min_confidence");
        utterance.options.min_confidence = 0.0;
        utterance.options.top_k = MAX_TOP_K + 1;
        assert_eq!(utterance.validate().unwrap_err().field, "options.top_k");
    }
}
