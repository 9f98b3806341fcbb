//! What devices say, and how it looks to the daemon.

use std::time::Duration;

use crate::Utterance;
use crate::delivery::{Accepted, Arrival, Reason, Rejection, Reply};

/// What a device says, once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Said {
    /// Which utterance of all that were ever said: the daemon never sees it, the checks do.
    pub(super) number: usize,
    pub(super) device: u8,
    pub(super) kind: Kind,
    pub(super) id: Option<u8>,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Good,
    /// The codec can't read it.
    Bad,
    /// The same, and the sender wants to know.
    BadWithReply,
    Expired,
    Retained,
    Unrouted,
    Qos0,
    /// Inference fails on it, always.
    Poison,
    /// Only the engine finds that it is too long.
    Long,
    /// Answered with two messages.
    Hermes,
    /// The broker refuses its intent, always.
    IntentRefused,
    /// The broker refuses its dead letter as well.
    AllRefused,
}

pub(super) const KINDS: [Kind; 12] = [
    Kind::Good,
    Kind::Bad,
    Kind::BadWithReply,
    Kind::Expired,
    Kind::Retained,
    Kind::Unrouted,
    Kind::Qos0,
    Kind::Poison,
    Kind::Long,
    Kind::Hermes,
    Kind::IntentRefused,
    Kind::AllRefused,
];

/// Utterances that nobody can tell apart; with a sender id they are one utterance.
pub(super) type Class = (u8, Kind, Option<u8>);

pub(super) fn class(said: &Said) -> Class {
    (said.device, said.kind, said.id)
}

pub(super) fn arrival(packet: Option<u16>, duplicate: bool, said: &Said) -> Arrival {
    let Said { number, device, kind, id } = *said;
    let rejection = Rejection {
        reason: Reason::BadJson,
        message: "not JSON".to_owned(),
        id: None,
        site: "home".to_owned(),
        device: device.to_string(),
    };
    // A repeated utterance may have another stamp, so that only its content is equal.
    let stamp = if id.is_some() { number } else { 0 };
    let utterance = Utterance {
        id: id.map_or_else(|| format!("made up for {number}"), |id| id.to_string()),
        text: format!("{kind:?}"),
        ..Utterance::default()
    };
    Arrival {
        packet,
        duplicate,
        retained: kind == Kind::Retained,
        topic: format!("intentd/home/{device}/utterance"),
        payload: format!("{kind:?} {id:?} {stamp}").into_bytes(),
        route: number,
        content: match kind {
            Kind::Bad | Kind::BadWithReply => Err(rejection),
            _ => Ok(Accepted { utterance, sender_id: id.is_some() }),
        },
        age: (kind == Kind::Expired).then_some(Duration::from_secs(61)),
        max_age: Some(Duration::from_secs(60)),
        attempts: 0,
        reply: Reply {
            topic: (kind == Kind::BadWithReply).then(|| "intentd/reply".to_owned()),
            correlation: None,
        },
    }
}
