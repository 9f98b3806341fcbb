//! Payloads of devices to utterances. A codec looks at bytes alone: site and device come from the topic, and what
//! happens to bad input is delivery's business.

mod json;
mod text;

use std::time::{Duration, SystemTime};

use intentd_core::delivery::Reason;
use intentd_core::{Context, Invalid, InvalidKind, Utterance};

/// Longest payload that is looked at, in bytes: the longest text with every character escaped, and the attributes.
pub(super) const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

/// How a route's payloads are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object.
    Json,
    /// The text itself.
    Text,
}

/// What a device sent, beside its payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sender<'a> {
    /// From the topic.
    pub site: &'a str,
    /// From the topic.
    pub device: &'a str,
    /// User property `id` (MQTT 5).
    pub id: Option<&'a str>,
}

/// A payload that could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Checked against every limit; `id` is empty where the sender gave none.
    pub utterance: Utterance,
    /// When it was said, by the sender's clock.
    pub said_at: Option<SystemTime>,
}

/// A payload that could not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// The sender's id as far as it could be read, else empty.
    pub id: String,
    /// The kind, for the dead letter.
    pub reason: Reason,
    /// What is wrong and what would be right, behind the field's name where it is about one. It may quote the
    /// payload, so it is for the sender, not for the log.
    pub message: String,
}

/// Reads a payload.
pub fn decode(format: Format, payload: &[u8], sender: Sender<'_>) -> Result<Decoded, Bad> {
    let mut read = match format {
        Format::Json => json::read(payload),
        Format::Text => text::read(payload),
    }
    .map_err(|bad| bad.with_id(sender.id))?;
    if read.id.is_empty() {
        read.id = sender.id.unwrap_or_default().to_owned();
    }
    let context = Context {
        site: sender.site.to_owned(),
        device: sender.device.to_owned(),
        area: read.area,
        language: read.language,
        session: read.session,
        attributes: read.attributes.into_iter().collect(),
    };
    let utterance = Utterance { id: read.id, text: read.text, context, ..Utterance::default() };
    match utterance.validate() {
        Ok(()) => Ok(Decoded { utterance, said_at: read.said_at }),
        Err(invalid) => Err(Bad::from_invalid(invalid, format, utterance.id)),
    }
}

/// What a payload says, before the limits are checked.
#[derive(Debug, Default)]
struct Read {
    id: String,
    text: String,
    language: String,
    session: String,
    area: String,
    attributes: Vec<(String, String)>,
    said_at: Option<SystemTime>,
}

impl Bad {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { id: String::new(), reason, message: message.into() }
    }

    /// Of the ids that it is offered, the first that may be echoed.
    fn with_id(mut self, id: Option<&str>) -> Self {
        if self.id.is_empty() {
            self.id = id.filter(|id| is_harmless(id)).unwrap_or_default().to_owned();
        }
        self
    }

    fn from_invalid(invalid: Invalid, format: Format, id: String) -> Self {
        let reason = match (invalid.kind, format) {
            (InvalidKind::Empty, _) => Reason::Empty,
            (InvalidKind::TooLong, _) => Reason::TooLong,
            (InvalidKind::BadValue, Format::Json) => Reason::BadJson,
            (InvalidKind::BadValue, Format::Text) => Reason::BadUtf8,
        };
        let id = if is_harmless(&id) { id } else { String::new() };
        Self { id, reason, message: invalid.to_string() }
    }
}

/// Fields that a message of ours may begin with.
const FIELDS: [&str; 11] = [
    "text",
    "id",
    "language",
    "session",
    "area",
    "attributes",
    "timestamp",
    "context.area",
    "context.language",
    "context.session",
    "context.attributes",
];

/// The field that a message begins with, and the rest; `payload` where it is about the whole.
pub(super) fn field_of(message: &str) -> (&'static str, &str) {
    let rest = |field: &str| message.strip_prefix(field)?.strip_prefix(": ");
    FIELDS.iter().find_map(|field| Some((*field, rest(field)?))).unwrap_or(("payload", message))
}

/// Whether an id may be echoed although the rest of the message is bad.
pub fn is_harmless(id: &str) -> bool {
    id.len() <= intentd_core::utterance::MAX_FIELD_BYTES && !id.chars().any(char::is_control)
}

fn utf8(payload: &[u8]) -> Result<&str, Bad> {
    std::str::from_utf8(payload).map_err(|error| {
        let at = error.valid_up_to();
        Bad::new(Reason::BadUtf8, format!("the payload is not UTF-8 from byte {at} on; send UTF-8"))
    })
}

/// A gateway without a battery-backed clock starts in 1970 or at its image's date: before this moment the wall clock
/// says nothing about the age of a message.
const PLAUSIBLE_FROM: Duration = Duration::from_secs(1_767_225_600); // 2026-01-01T00:00:00Z

/// How long ago something was said, if both clocks can be believed. A sender ahead of us said it just now.
pub(super) fn age(said_at: SystemTime, now: SystemTime) -> Option<Duration> {
    let plausible =
        |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|t| t >= PLAUSIBLE_FROM);
    (plausible(now) && plausible(said_at)).then(|| now.duration_since(said_at).unwrap_or_default())
}

#[cfg(test)]
mod tests;
