//! Lines of the log that a stranger can cause: each kind at most once a while, so that a device that sends nonsense
//! wears out no flash card. The metrics count them all.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(10);

/// When each kind was last written. The kinds are a few constants, so this stays small.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    kinds: HashMap<&'static str, Kind>,
}

#[derive(Debug)]
struct Kind {
    written: Instant,
    kept_back: u64,
}

impl Seldom {
    /// Whether a line of this kind may be written now; then, how many were kept back since the last.
    pub(super) fn may_write(&mut self, kind: &'static str, now: Instant) -> Option<u64> {
        let Some(known) = self.kinds.get_mut(kind) else {
            self.kinds.insert(kind, Kind { written: now, kept_back: 0 });
            return Some(0);
        };
        if now.saturating_duration_since(known.written) < PAUSE {
            known.kept_back += 1;
            return None;
        }
        known.written = now;
        Some(std::mem::take(&mut known.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_written_once_a_while() {
        let (mut seldom, start) = (Seldom::default(), Instant::now());
        assert_eq!(seldom.may_write("a", start), Some(0));
        assert_eq!(seldom.may_write("a", start), None);
        assert_eq!(seldom.may_write("b", start), Some(0));
        assert_eq!(seldom.may_write("a", start + PAUSE / 2), None);
        assert_eq!(seldom.may_write("a", start + PAUSE), Some(2));
        assert_eq!(seldom.may_write("a", start + 2 * PAUSE), Some(0));
    }
}
