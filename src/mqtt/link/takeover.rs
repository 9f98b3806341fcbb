//! Two clients with one id throw each other out of the session, again and again. Whoever finds that out waits long
//! before it comes back, so that the two don't keep broker and gateway busy, and says what to mend.
//!
//! MQTT 5 has a reason code for it, but mosquitto (2.0.11) just closes, as every broker of MQTT 3.1.1 does. So it counts as
//! the same when connections that stood are closed without a word soon after, several in a row, and the broker is there
//! again at once.

use std::time::Duration;

use intentd_core::delivery::Backoff;

use super::connection::End;

/// A connection that stood for so long has no rival: one like us is back after [`Backoff::CEILING`] at most.
const UNDISPUTED_AFTER: Duration = Duration::from_secs(60);

/// The first wait at most; the next ones are twice as long each. At least half of it is waited.
const FIRST: Duration = Duration::from_secs(10);

/// So many connections closed without a word are no accident any more.
const SILENT_ENDS: u32 = 3;

/// What speaks for a rival.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    /// Connections in a row that were closed without a word.
    silent_ends: u32,
    /// Waits in a row because of a rival.
    waits: u32,
}

impl Takeover {
    /// A connection has ended; `stood` is for how long it was subscribed. How long to wait where a rival took it.
    /// `random` is uniform in 0..1.
    pub(super) fn on_closed(&mut self, end: End, stood: Option<Duration>, random: f64) -> Option<Duration> {
        if stood.is_some_and(|stood| stood >= UNDISPUTED_AFTER) {
            *self = Self::default();
        }
        match (end, stood) {
            (End::TakenOver, _) => self.silent_ends = 0,
            // A rival like us leaves more time than that: a line that is cut in quick turns is none.
            (End::Silent, Some(stood)) if stood < Backoff::FLOOR => return None,
            (End::Silent, Some(_)) => {
                self.silent_ends += 1;
                if self.silent_ends < SILENT_ENDS {
                    return None;
                }
                // The quick turns before have used up what the first wait would allow.
                self.waits = self.waits.max(1);
            }
            (End::Silent, None) | (End::Other, _) => {
                // A broker that is away, or a line that is dead, is no rival.
                self.silent_ends = 0;
                return None;
            }
        }
        let longest = (FIRST * (1 << self.waits.min(2))).min(Backoff::CEILING);
        self.waits += 1;
        Some(longest / 2 + (longest / 2).mul_f64(random.clamp(0.0, 1.0)))
    }

    /// What happened and how to mend it.
    pub(super) fn reason(&self, client_id: &str) -> String {
        let what = match self.silent_ends {
            0 => "another client has taken this daemon's place at the broker".to_owned(),
            ends => format!(
                "the broker has closed {ends} connections in a row soon after it accepted them, as it does when another \
                 client takes this daemon's place"
            ),
        };
        format!(
            "{what}: two with the client id {client_id}; give each daemon its own `gateway` name (or mqtt.client_id)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Option<Duration> = Some(Duration::from_secs(1));

    fn waits(takeover: &mut Takeover, end: End, random: f64) -> Vec<Option<u64>> {
        let wait = |_| takeover.on_closed(end, SOON, random).map(|wait| wait.as_secs());
        (0..5).map(wait).collect()
    }

    #[test]
    fn a_rival_makes_the_waits_grow_up_to_the_cap() {
        for (random, expected) in [(0.0, [5, 10, 15, 15, 15]), (1.0, [10, 20, 30, 30, 30])] {
            let mut takeover = Takeover::default();
            assert_eq!(waits(&mut takeover, End::TakenOver, random), expected.map(Some));
        }
        let mut takeover = Takeover::default();
        assert!(takeover.on_closed(End::TakenOver, None, 0.5).is_some(), "before it was subscribed");
        assert!(
            takeover.reason("intentd-x").contains("intentd-x") && takeover.reason("").contains("gateway")
        );
    }

    #[test]
    fn a_connection_that_held_ends_the_suspicion() {
        let mut takeover = Takeover::default();
        waits(&mut takeover, End::TakenOver, 0.0);
        let first = takeover.on_closed(End::TakenOver, Some(UNDISPUTED_AFTER), 0.0);
        assert_eq!(first, Some(FIRST / 2));
    }

    #[test]
    fn a_rival_that_nobody_tells_of_is_known_by_the_third_silent_end() {
        let mut takeover = Takeover::default();
        assert_eq!(waits(&mut takeover, End::Silent, 0.0), [None, None, Some(10), Some(15), Some(15)]);
        assert!(takeover.reason("intentd-x").contains("5 connections"));
    }

    #[test]
    fn a_broker_that_was_away_or_never_let_us_in_is_no_rival() {
        for (end, stood) in [(End::Other, None), (End::Other, SOON), (End::Silent, None)] {
            let mut takeover = Takeover::default();
            for _ in 0..10 {
                assert_eq!(takeover.on_closed(End::Silent, SOON, 0.0), None);
                assert_eq!(takeover.on_closed(End::Silent, SOON, 0.0), None);
                assert_eq!(takeover.on_closed(end, stood, 0.0), None);
            }
        }
    }

    #[test]
    fn cuts_in_quick_turns_are_no_rival() {
        let mut takeover = Takeover::default();
        for _ in 0..10 {
            assert_eq!(takeover.on_closed(End::Silent, Some(Backoff::FLOOR / 2), 0.0), None);
        }
    }
}
