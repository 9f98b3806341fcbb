//! Vocabulary and decisions of intentd, without sockets, clocks, threads or channels: events and `now` in,
//! actions out. The shells around it (rumqttc, tonic, worker threads) execute the actions.
//!
//! - [`utterance`], [`understanding`]: what goes in and what comes out. [`question`]: the same of questions about passages.
//! - [`topic`]: MQTT topic templates and matching.
//! - [`admission`]: the one bounded queue of both doors, and the batches formed from it.
//! - [`attempts`]: which utterance ends the process, found across crashes.
//! - [`delivery`]: utterances in flight over MQTT: acknowledged in order, each after its own intent.

#![forbid(unsafe_code)]

pub mod admission;
pub mod attempts;
pub mod delivery;
pub mod question;
pub mod topic;
pub mod understanding;
pub mod utterance;

pub use question::{Answer, AnswerSpan, Question};
pub use understanding::{
    Effort, Entity, Intent, ModelRef, Outcome, ParseError, Sentiment, Slot, SlotValue, Understanding,
};
pub use utterance::{Context, Invalid, InvalidKind, ParseOptions, Task, Utterance};
