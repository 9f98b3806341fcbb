//! What arrives from the broker.

use std::time::Duration;

use crate::utterance::{InvalidKind, Utterance};

/// A message of a subscribed topic, decoded by the route's codec.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// Packet identifier; none for QoS 0, which is answered but has nothing to acknowledge.
    pub packet: Option<u16>,
    /// The DUP flag: the broker may have sent this packet before.
    pub duplicate: bool,
    /// The RETAIN flag. The subscription must leave "retain as published" off, else live messages carry it too.
    pub retained: bool,
    /// Where it was published.
    pub topic: String,
    /// As it was published.
    pub payload: Vec<u8>,
    /// Which route it matched; handed back with [`Delivery::entry`](super::Delivery::entry).
    pub route: usize,
    /// What the codec made of the payload.
    pub content: Result<Accepted, Rejection>,
    /// How old it is, where that is known.
    pub age: Option<Duration>,
    /// The route's limit of age; none: any age is answered.
    pub max_age: Option<Duration>,
    /// Failed attempts in earlier lives of this process; 0 where none are known.
    pub attempts: u32,
    /// Where the sender wants the answer.
    pub reply: Reply,
}

/// An utterance that passed every check of its door.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// What was said; `id` is set.
    pub utterance: Utterance,
    /// Whether the id is the sender's. Then another message with it on the same topic is a duplicate.
    pub sender_id: bool,
}

/// Why a message is no utterance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// For the dead letter.
    pub reason: Reason,
    /// A sentence for the sender.
    pub message: String,
    /// The sender's id as far as it could be read.
    pub id: Option<String>,
    /// From the topic, as far as it could be read.
    pub site: String,
    /// From the topic, as far as it could be read.
    pub device: String,
}

/// MQTT 5's way to say where the answer goes. The link has checked the topic; one that it doesn't accept is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Response Topic, in place of the route's.
    pub topic: Option<String>,
    /// Correlation Data, to be copied.
    pub correlation: Option<Vec<u8>>,
}

/// Why an utterance became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The payload isn't the JSON that the codec wants.
    BadJson,
    /// The payload isn't UTF-8.
    BadUtf8,
    /// There is nothing to understand.
    Empty,
    /// Over a limit of bytes or wordpieces.
    TooLong,
    /// The topic's site or device is outside its alphabet.
    BadTopic,
    /// Older than the route's limit.
    Expired,
    /// Inference failed on it time and again.
    Poison,
    /// The broker doesn't take its intent.
    PublishRefused,
    /// It is a message of ours, or of another intentd.
    Loop,
}

impl Reason {
    /// Name in dead letters and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::BadUtf8 => "bad_utf8",
            Self::Empty => "empty",
            Self::TooLong => "too_long",
            Self::BadTopic => "bad_topic",
            Self::Expired => "expired",
            Self::Poison => "poison",
            Self::PublishRefused => "publish_refused",
            Self::Loop => "loop",
        }
    }
}

impl From<InvalidKind> for Reason {
    /// For what only the engine finds out; a codec tells values of JSON and plain text apart itself.
    fn from(kind: InvalidKind) -> Self {
        match kind {
            InvalidKind::BadValue => Self::BadJson,
            InvalidKind::Empty => Self::Empty,
            InvalidKind::TooLong => Self::TooLong,
        }
    }
}

/// Why a message is acknowledged without being looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// It matches no route.
    Unrouted,
    /// It is a probe of an intentd.
    Probe,
    /// It was kept by the broker from an earlier time.
    Retained,
}
