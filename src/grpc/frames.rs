//! Frames that ask for work and carry none: pings, settings, priorities, resets, window updates. HTTP/2 lets a peer send
//! them without end, and h2 answers each; here a connection has an allowance of them, which requests add to.

use std::time::Instant;

/// What a client says first, and the head of each frame (RFC 9113, 3.4 and 4.1).
pub(super) const PREFACE_BYTES: usize = 24;
pub(super) const HEAD_BYTES: usize = 9;

/// Saved at most; a new connection has it.
const ALLOWANCE_MAX: u32 = 10_000;

/// Gained in a second: a thousand pings, far more than keep-alive and measurements of bandwidth need.
const GAINED_PER_SECOND: u32 = 10_000;

/// Gained with a frame of a request: some clients measure the bandwidth by a ping for each answer.
const GAINED_PER_REQUEST_FRAME: u32 = 20;

/// A window update or a reset: each costs a lookup.
const PRICE: u32 = 1;

/// What must be answered, or is of no use: a ping, settings, a priority, a frame of unknown type.
const HIGH_PRICE: u32 = 10;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;

/// Follows what one peer sends.
pub(super) struct Frames {
    /// Bytes of preface or payload until the next head.
    skip: usize,
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    allowance: u32,
    gained_at: Instant,
}

impl Frames {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            skip: PREFACE_BYTES,
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            allowance: ALLOWANCE_MAX,
            gained_at: now,
        }
    }

    /// Takes the next bytes. Whether they were within the allowance; if not, the connection is at its end.
    pub(super) fn take(&mut self, mut bytes: &[u8], now: Instant) -> bool {
        self.gain(now);
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let known = (HEAD_BYTES - self.head_bytes).min(bytes.len());
            self.head[self.head_bytes..self.head_bytes + known].copy_from_slice(&bytes[..known]);
            self.head_bytes += known;
            bytes = &bytes[known..];
            if self.head_bytes == HEAD_BYTES {
                self.head_bytes = 0;
                if !self.pay() {
                    return false;
                }
            }
        }
        true
    }

    fn gain(&mut self, now: Instant) {
        let gained = now.duration_since(self.gained_at).as_millis() * u128::from(GAINED_PER_SECOND) / 1000;
        // Less than a whole unit is left for the next time.
        if gained > 0 {
            let gained = u32::try_from(gained).unwrap_or(u32::MAX);
            self.allowance = self.allowance.saturating_add(gained).min(ALLOWANCE_MAX);
            self.gained_at = now;
        }
    }

    /// For the frame whose head is complete.
    fn pay(&mut self) -> bool {
        let [a, b, c, kind, flags, ..] = self.head;
        self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
        let price = match kind {
            HEADERS | DATA if self.skip > 0 => {
                self.allowance = (self.allowance + GAINED_PER_REQUEST_FRAME).min(ALLOWANCE_MAX);
                0
            }
            // h2 counts these itself.
            HEADERS | DATA | CONTINUATION => 0,
            SETTINGS | PING if flags & ACK != 0 => 0,
            WINDOW_UPDATE | RST_STREAM => PRICE,
            _ => HIGH_PRICE,
        };
        match self.allowance.checked_sub(price) {
            Some(left) => {
                self.allowance = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 0], payload].concat()
    }

    fn greeted(now: Instant) -> Frames {
        let mut frames = Frames::new(now);
        assert!(frames.take(&[b'P'; PREFACE_BYTES], now));
        frames
    }

    #[test]
    fn pings_are_allowed_up_to_a_rate() {
        let now = Instant::now();
        let mut frames = greeted(now);
        let ping = frame(PING, 0, &[0; 8]);
        assert!((0..1000).all(|_| frames.take(&ping, now)), "a burst");
        let later = now + Duration::from_millis(100);
        assert!((0..100).all(|_| frames.take(&ping, later)), "what a tenth of a second gains");
        assert!(!frames.take(&ping, later));
    }

    #[test]
    fn requests_and_acknowledgements_are_free_and_earn_pings() {
        let now = Instant::now();
        let mut frames = greeted(now);
        let call = [
            frame(HEADERS, 4, &[1; 40]),
            frame(DATA, 1, &[1; 30]),
            frame(PING, 0, &[0; 8]),
            frame(WINDOW_UPDATE, 0, &[0; 4]),
            frame(SETTINGS, ACK, &[]),
        ];
        assert!((0..100_000).all(|_| frames.take(&call.concat(), now)));
        let empty = [frame(DATA, 0, &[]), frame(PING, 0, &[0; 8])].concat();
        assert!((0..2_000).any(|_| !frames.take(&empty, now)), "nothing is earned by nothing");
    }

    #[test]
    fn it_does_not_matter_where_the_bytes_are_cut() {
        let now = Instant::now();
        let flood = frame(PRIORITY, 0, &[PING; 5]).repeat(1001);
        for size in [1, 2, 8, 9, 10, 13, 14, 15, 1000] {
            let mut frames = greeted(now);
            let taken = flood.chunks(size).take_while(|bytes| frames.take(bytes, now)).count();
            assert_eq!(taken, (1000 * 14 + HEAD_BYTES - 1) / size, "{size} bytes at a time");
        }
    }

    const PRIORITY: u8 = 2;
}
