//! What comes out: the understanding of one utterance, or why there is none.

use std::ops::Range;
use std::time::Duration;

use crate::utterance::Invalid;

/// What the engine made of one utterance.
#[derive(Clone, Debug, PartialEq)]
pub struct Understanding {
    /// Whether to act, to ask, or to say that it was not understood.
    pub outcome: Outcome,
    /// The intent; none when NOT_RECOGNIZED (the best guess then stands first in `alternatives`).
    pub intent: Option<Intent>,
    /// The next best intents, best first.
    pub alternatives: Vec<Intent>,
    /// Values found in the text, in its order.
    pub slots: Vec<Slot>,
    /// Mood, where asked for.
    pub sentiment: Option<Sentiment>,
    /// Named entities in the order of the text, where asked for.
    pub entities: Vec<Entity>,
    /// Vector of length 1, where asked for; else empty.
    pub embedding: Vec<f32>,
    /// Time and size of the engine's own work.
    pub effort: Effort,
}

/// What a caller may do with the intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Act on it.
    Recognized,
    /// Confirm with the speaker first.
    Uncertain,
    /// Outside what the bundle understands.
    NotRecognized,
}

/// Name and calibrated probability of what the speaker wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// Label of the bundle.
    pub name: String,
    /// Calibrated probability, 0 to 1.
    pub confidence: f32,
}

/// A value inside the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// Label of the bundle.
    pub name: String,
    /// The text of the span as it was said.
    pub raw_value: String,
    /// The resolved value; none when the words could not be resolved.
    pub value: Option<SlotValue>,
    /// Span in Unicode code points of the text, end exclusive.
    pub chars: Range<u32>,
    /// Span in bytes of the text, end exclusive.
    pub bytes: Range<u32>,
    /// Probability of the span's tags, 0 to 1.
    pub confidence: f32,
}

/// The mood of an utterance.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentiment {
    /// Label of the bundle.
    pub label: String,
    /// Calibrated probability, 0 to 1.
    pub score: f32,
}

/// A named entity in the text.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// Kind of entity, a label of the bundle.
    pub kind: String,
    /// The text of the span as it was said.
    pub text: String,
    /// Span in Unicode code points of the text, end exclusive.
    pub chars: Range<u32>,
    /// Span in bytes of the text, end exclusive.
    pub bytes: Range<u32>,
    /// Probability of the span's tags, 0 to 1.
    pub confidence: f32,
}

/// A slot's value after resolution.
#[derive(Clone, Debug, PartialEq)]
pub enum SlotValue {
    /// A number, such as 21.5.
    Number(f64),
    /// An ISO 8601 time (`07:30:00`) or a canonical name.
    Text(String),
}

/// The engine's own work for one utterance or question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Wordpieces that the encoder read, with its marks.
    pub tokens: u32,
    /// Text to wordpieces.
    pub tokenize: Duration,
    /// Wordpieces to the answer.
    pub inference: Duration,
}

/// Which bundle answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRef {
    /// Name in the manifest.
    pub name: String,
    /// Version in the manifest.
    pub version: String,
}

/// Why there is no understanding, by who must act.
#[derive(Clone, Debug, PartialEq)]
pub enum ParseError {
    /// The peer sent something that cannot be understood.
    Invalid(Invalid),
    /// The bundle lacks a task that was asked for: the peer asks another bundle, or the operator installs one.
    TaskMissing(String),
    /// Too much waits; the peer tries again after this time.
    Overloaded {
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// The deadline passed before inference.
    DeadlineExceeded,
    /// The daemon is draining or has no bundle.
    Unavailable(&'static str),
    /// A fault of ours; the message is for the log and says no more than the peer may know.
    Internal(String),
}

impl From<Invalid> for ParseError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::TaskMissing(message) => f.write_str(message),
            Self::Overloaded { retry_after } => {
                write!(f, "too much waits; try again in {} ms", retry_after.as_millis())
            }
            Self::DeadlineExceeded => f.write_str("the deadline passed before there was an answer"),
            Self::Unavailable(why) => f.write_str(why),
            Self::Internal(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for ParseError {}
