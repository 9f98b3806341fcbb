//! MQTT topics: names, filters, and the templates of routes.
//!
//! Site and device of an utterance come from its topic alone, so a topic is checked before anything is made of it, and
//! nothing is ever published outside a parsed template. The matcher is our own: the client library's panics on topics
//! that don't begin with ASCII, and a stranger chooses the topics below a wildcard.

mod filter;
mod template;
#[cfg(test)]
mod tests;

pub use filter::{filters_overlap, topic_matches_filter, valid_filter, valid_topic_name};
pub use template::{Captures, Route, Template, TemplateError, TopicError};

/// Longest topic in bytes of UTF-8: its length is sent as 16 bits.
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// Longest site or device in bytes.
pub const MAX_CAPTURE_BYTES: usize = 64;
