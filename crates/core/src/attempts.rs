//! Which utterance ends the process: found across crashes, without blame for what was merely in flight.
//!
//! Before a batch enters inference, [`Attempts::record`] is written where it outlives the process. After an unclean end
//! it names who was in there. Those are suspects, and suspects run alone; a death is counted only where exactly one
//! utterance was in inference. One that comes out again is cleared. After
//! [`MAX_ATTEMPTS`](crate::delivery::MAX_ATTEMPTS) deaths it is not tried again: a process that is killed from outside
//! would have to be hit three times in a row during the few milliseconds of the same utterance.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::{Question, Utterance};

/// Suspects that are remembered; a crash adds at most what was in inference.
const MAX_SUSPECTS: usize = 512;

/// What inference sees of an utterance or a question. Not its id: one without a sender's id gets a new one at every delivery. Not
/// its text: the record must not hold what somebody said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The same for the same words and tasks, in every process of one build.
    pub fn of(utterance: &Utterance) -> Self {
        let mut hasher = DefaultHasher::new();
        (&utterance.text, &utterance.options.tasks, &utterance.options.bundle).hash(&mut hasher);
        Self(hasher.finish())
    }

    /// The same for the same question and passages.
    pub fn of_question(question: &Question) -> Self {
        let mut hasher = DefaultHasher::new();
        (&question.question, &question.passages, &question.bundle).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// What is in inference now, and what earlier lives of this process tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    running: Vec<Fingerprint>,
    /// Suspects with their deaths alone.
    suspects: BTreeMap<Fingerprint, u32>,
}

impl Attempts {
    /// Draws the conclusions from the record that an earlier process left. None where it isn't one.
    pub fn after(record: &str) -> Option<Self> {
        let mut attempts = Self::read(record)?;
        let running = std::mem::take(&mut attempts.running);
        if attempts.suspects.len() + running.len() > MAX_SUSPECTS {
            attempts.suspects.retain(|_, deaths| *deaths > 0);
        }
        if attempts.suspects.len() + running.len() > MAX_SUSPECTS {
            attempts.suspects.clear();
        }
        let alone = u32::from(running.len() == 1);
        for fingerprint in running {
            *attempts.suspects.entry(fingerprint).or_default() += alone;
        }
        Some(attempts)
    }

    /// How often the process died on this one alone.
    pub fn deaths(&self, fingerprint: Fingerprint) -> u32 {
        self.suspects.get(&fingerprint).copied().unwrap_or(0)
    }

    /// Whether it must run alone.
    pub fn is_suspect(&self, fingerprint: Fingerprint) -> bool {
        self.suspects.contains_key(&fingerprint)
    }

    /// How many must run alone.
    pub fn suspects(&self) -> usize {
        self.suspects.len()
    }

    /// A batch enters inference.
    pub fn enter(&mut self, batch: &[Fingerprint]) {
        self.running.extend(batch);
    }

    /// A batch has come out again, with whatever answers: none of it ends the process.
    pub fn leave(&mut self, batch: &[Fingerprint]) {
        for fingerprint in batch {
            if let Some(place) = self.running.iter().position(|running| running == fingerprint) {
                self.running.swap_remove(place);
            }
            self.suspects.remove(fingerprint);
        }
    }

    /// To be written over the record before; what stands behind `end` is left from a longer one.
    pub fn record(&self) -> String {
        let running = self.running.iter().map(|Fingerprint(hash)| format!("running {hash:016x}\n"));
        let suspects =
            self.suspects.iter().map(|(Fingerprint(hash), deaths)| format!("suspect {hash:016x} {deaths}\n"));
        running.chain(suspects).chain(["end\n".to_owned()]).collect()
    }

    fn read(record: &str) -> Option<Self> {
        let mut attempts = Self::default();
        let hash = |text: &str| u64::from_str_radix(text, 16).ok().map(Fingerprint);
        for line in record.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["running", running] => attempts.running.push(hash(running)?),
                ["suspect", suspect, deaths] => {
                    attempts.suspects.insert(hash(suspect)?, deaths.parse().ok()?);
                }
                ["end"] => return Some(attempts),
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::MAX_ATTEMPTS;

    fn said(text: &str) -> Fingerprint {
        Fingerprint::of(&Utterance { text: text.to_owned(), ..Utterance::default() })
    }

    /// The process dies now, and starts again.
    fn crash(attempts: &Attempts) -> Attempts {
        Attempts::after(&attempts.record()).unwrap()
    }

    #[test]
    fn the_one_that_kills_is_found_among_those_beside_it() {
        let (a, killer, c) = (said("a"), said("killer"), said("c"));
        let mut attempts = Attempts::default();
        attempts.enter(&[a, killer, c]);
        attempts = crash(&attempts);
        assert!([a, killer, c].iter().all(|one| attempts.is_suspect(*one) && attempts.deaths(*one) == 0));
        // Alone from now on: the first comes out, the second does not.
        for death in 1..=MAX_ATTEMPTS {
            attempts.enter(&[a]);
            attempts.leave(&[a]);
            attempts.enter(&[killer]);
            attempts = crash(&attempts);
            assert_eq!(attempts.deaths(killer), death);
            assert!(!attempts.is_suspect(a) && attempts.is_suspect(c) && attempts.deaths(c) == 0);
        }
        attempts.enter(&[c]);
        attempts.leave(&[c]);
        assert_eq!(attempts.suspects(), 1);
    }

    #[test]
    fn who_comes_out_again_is_cleared() {
        let victim = said("killed from outside");
        let mut attempts = Attempts::default();
        for _ in 0..20 {
            attempts.enter(&[victim]);
            attempts = crash(&attempts);
            assert_eq!(attempts.deaths(victim), 1);
            attempts.enter(&[victim]);
            attempts.leave(&[victim]);
        }
    }

    #[test]
    fn an_end_outside_inference_blames_nobody() {
        let mut attempts = Attempts::default();
        attempts.enter(&[said("a"), said("a")]);
        attempts.leave(&[said("a")]);
        // Another thread has the same words in inference still.
        assert_eq!(crash(&attempts).deaths(said("a")), 1);
        attempts.leave(&[said("a")]);
        assert_eq!(crash(&attempts), Attempts::default());
        // A start that is cut short before inference counts nothing twice.
        attempts.enter(&[said("a")]);
        let once = crash(&attempts);
        assert_eq!(crash(&once), once);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for text in ["", "end", "running 1\nend\nleft over", "running 1\nsuspect 2 3\nend\n"] {
            assert_eq!(Attempts::after(text).is_some(), !text.is_empty(), "{text}");
        }
        for text in ["running 1\n", "running x\nend\n", "walking 1\nend\n", "suspect 1\nend\n", "\0\0\0"] {
            assert_eq!(Attempts::after(text), None, "{text}");
        }
    }

    #[test]
    fn the_record_stays_small() {
        let mut attempts = Attempts::default();
        for round in 0..50 {
            let batch: Vec<_> = (0..64).map(|i| said(&format!("{round} {i}"))).collect();
            attempts.enter(&batch);
            attempts = crash(&attempts);
            assert!(attempts.suspects() <= MAX_SUSPECTS && attempts.is_suspect(batch[63]));
        }
        assert!(attempts.record().len() < 20_000);
    }
}
