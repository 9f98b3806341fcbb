//! What the link has to do.

use std::fmt;

use super::arrival::{Ignored, Reason};

/// An utterance in flight. Later arrivals have greater keys; a key is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub(super) u64);

/// One handing over of one message to the broker. A number is never used twice, so a stale PUBACK can't be mistaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Publication(pub(super) u64);

/// One connection to the broker; 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub(super) u64);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// To be performed at once and in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action<M> {
    /// Have the utterance of this entry understood and call [`Delivery::on_parsed`](super::Delivery::on_parsed),
    /// whatever comes out.
    Parse {
        /// Whose utterance.
        key: Key,
    },
    /// Hand a message to the broker with QoS 1, then call
    /// [`Delivery::on_published`](super::Delivery::on_published) or
    /// [`Delivery::on_refused`](super::Delivery::on_refused), unless the connection ends first.
    Publish {
        /// Names this handing over in the answer.
        publication: Publication,
        /// Whose answer it is: [`Delivery::entry`](super::Delivery::entry) has it at least until the next event.
        key: Key,
        /// What to publish.
        message: Outgoing<M>,
    },
    /// Send the PUBACK of an arrival. Acknowledgements leave in the order of these actions; one that doesn't fit the
    /// client's channel is kept and tried again before any later one, and thrown away when its connection has ended.
    Acknowledge {
        /// The connection that it belongs to.
        epoch: Epoch,
        /// The arrival's packet identifier.
        packet: u16,
    },
    /// Disconnect and connect again. The broker sent more at a time than is kept here; what was left out stays
    /// unacknowledged, and the broker sends it again.
    Reconnect,
    /// For the metrics, and for the log where the variant says so.
    Count(Counted),
}

/// A message for the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing<M> {
    /// As it was encoded when the utterance had been parsed.
    Intent(M),
    /// To the dead letter topic.
    DeadLetter(Letter),
    /// The same news to the sender's Response Topic (`reply.topic` of the entry, which is set).
    ErrorAnswer(Letter),
}

/// Why there is no intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The kind.
    pub reason: Reason,
    /// A sentence.
    pub message: String,
    /// How often it was tried: inference for poison, publishing for refused ones, else 0.
    pub attempts: u32,
}

/// Why the broker didn't take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The reason code of its PUBACK, 0x80 or above.
    Code(u8),
    /// The packet is larger than the broker takes; it was not sent.
    TooLarge {
        /// Size of the packet in bytes.
        bytes: usize,
        /// The broker's limit in bytes.
        limit: usize,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "the broker refused the message with reason code 0x{code:02X}"),
            Self::TooLarge { bytes, limit } => {
                write!(f, "the message has {bytes} bytes; the broker takes {limit}")
            }
        }
    }
}

/// Something that operators want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// Acknowledged without a look.
    Ignored(Ignored),
    /// An arrival joined the entry of an earlier one.
    Duplicate,
    /// An arrival had QoS 0: answered, but without a promise.
    Qos0,
    /// An arrival had QoS 0 and was thrown away, since too many of them waited (log).
    Qos0Dropped,
    /// An arrival was left to the broker, since the table is full; see [`Action::Reconnect`] (log).
    LeftToBroker,
    /// An utterance became a dead letter (log).
    DeadLetter(Reason),
    /// Inference was overloaded or not ready; the utterance waits for another turn.
    ParsedLater,
    /// Inference failed on an utterance (log).
    ParseFailed,
    /// A message was handed over again after a reconnect.
    PublishedAgain,
    /// The broker refused a message (log).
    Refused,
    /// The broker refused even a dead letter or an error answer; it was given up (log).
    GivenUp,
}
