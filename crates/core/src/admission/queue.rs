//! What waits at one door, in order of arrival, and how much work it is.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Admitted;

/// How long it is until the deadline.
pub(super) fn patience(deadline: Option<Instant>, now: Instant) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(now))
}

#[derive(Debug)]
pub(super) struct Waiting<J> {
    pub(super) number: u64,
    pub(super) since: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) work: u64,
    pub(super) job: J,
}

impl<J> Waiting<J> {
    pub(super) fn patience(&self, now: Instant) -> Duration {
        patience(self.deadline, now)
    }

    pub(super) fn admitted(self) -> Admitted<J> {
        Admitted { job: self.job, since: self.since, work: self.work }
    }
}

#[derive(Debug)]
pub(super) struct Queue<J> {
    waiting: VecDeque<Waiting<J>>,
    work: u64,
}

impl<J> Queue<J> {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), work: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Of all that waits.
    pub(super) fn work(&self) -> u64 {
        self.work
    }

    pub(super) fn front(&self) -> Option<&Waiting<J>> {
        self.waiting.front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Waiting<J>> {
        self.waiting.iter()
    }

    pub(super) fn push(&mut self, waiting: Waiting<J>) {
        self.work += waiting.work;
        self.waiting.push_back(waiting);
    }

    pub(super) fn pop(&mut self) -> Option<Waiting<J>> {
        self.remove(0)
    }

    pub(super) fn cancel(&mut self, number: u64) -> Option<J> {
        let index = self.waiting.binary_search_by_key(&number, |waiting| waiting.number).ok()?;
        self.remove(index).map(|waiting| waiting.job)
    }

    /// Those whose deadline has passed.
    pub(super) fn take_expired(&mut self, now: Instant, expired: &mut Vec<J>) {
        let mut index = 0;
        while index < self.waiting.len() {
            if self.waiting[index].patience(now).is_zero() {
                expired.extend(self.remove(index).map(|waiting| waiting.job));
            } else {
                index += 1;
            }
        }
    }

    fn remove(&mut self, index: usize) -> Option<Waiting<J>> {
        let waiting = self.waiting.remove(index)?;
        self.work -= waiting.work;
        Some(waiting)
    }
}
