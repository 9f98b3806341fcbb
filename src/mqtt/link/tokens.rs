//! Whose acknowledgement a PUBACK is: rumqttc tells only packet ids, and those after the fact.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

/// Which token belongs to which packet id. rumqttc numbers publishes in the order in which they were handed over.
pub(super) struct Tokens<T> {
    pub(super) handed_over: VecDeque<T>,
    held: Option<T>,
    in_flight: HashMap<u16, (T, Instant)>,
}

impl<T> Default for Tokens<T> {
    fn default() -> Self {
        Self { handed_over: VecDeque::new(), held: None, in_flight: HashMap::new() }
    }
}

impl<T> Tokens<T> {
    /// Returns the token where nothing is to be waited for.
    pub(super) fn sent(&mut self, packet_id: u16) -> Option<T> {
        let token = self.held.take().or_else(|| self.handed_over.pop_front())?;
        if packet_id == 0 {
            return Some(token);
        }
        self.in_flight.insert(packet_id, (token, Instant::now()));
        None
    }

    pub(super) fn held(&mut self) {
        self.held = self.handed_over.pop_front();
    }

    pub(super) fn acknowledged(&mut self, packet_id: u16) -> Option<T> {
        self.in_flight.remove(&packet_id).map(|(token, _)| token)
    }

    /// When the oldest without a PUBACK was written.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.in_flight.values().map(|(_, sent)| *sent).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_follow_their_packet_ids() {
        let mut tokens = Tokens { handed_over: VecDeque::from(["a", "zero", "b"]), ..Tokens::default() };
        assert_eq!(tokens.sent(1), None);
        assert_eq!(tokens.sent(0), Some("zero"));
        assert_eq!(tokens.sent(2), None);
        assert_eq!(tokens.acknowledged(2), Some("b"));
        assert_eq!(tokens.acknowledged(1), Some("a"));
        assert_eq!(tokens.acknowledged(1), None);
    }

    #[test]
    fn a_packet_id_in_use_keeps_its_first_token() {
        let mut tokens = Tokens { handed_over: VecDeque::from(["first", "second"]), ..Tokens::default() };
        tokens.sent(1);
        tokens.held();
        assert_eq!(tokens.acknowledged(1), Some("first"));
        assert_eq!(tokens.sent(1), None);
        assert_eq!(tokens.acknowledged(1), Some("second"));
    }
}
