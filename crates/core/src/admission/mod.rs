//! Admission: the one bounded queue in front of inference, shared by both doors.
//!
//! Overload is an answer, not an accident: what can't be served in time over gRPC is refused at once, with a hint when
//! to try again. Over MQTT the broker is the queue and its receive maximum the bound, so those utterances wait. The
//! doors take turns, so that a flood at one doesn't starve the other.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::understanding::ParseError;

/// Weight of the latest batch in the mean service time: about ten batches make a new load felt, one slow one doesn't.
const SMOOTHING: f64 = 0.2;

/// Bounds of the hint to a refused sender: below, a crowd would come back before anything has changed; above, it would
/// stay away from a daemon that has long been idle.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(10));

/// Where an utterance came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// A request of a client that waits for its answer.
    Grpc,
    /// A message of a device.
    Mqtt,
}

impl Door {
    /// Name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Mqtt => "mqtt",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Grpc => Self::Mqtt,
            Self::Mqtt => Self::Grpc,
        }
    }
}

/// Who may wait, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Worker threads that take batches, at least one.
    pub threads: usize,
    /// Utterances that may wait at the gRPC door.
    pub grpc_places: usize,
    /// Utterances that may wait at the MQTT door: as many as [`Delivery::places`](crate::delivery::Delivery::places),
    /// then none is ever refused.
    pub mqtt_places: usize,
    /// Utterances in one batch, at least one.
    pub max_batch: usize,
    /// Longest wait to expect of a gRPC utterance; one that would wait longer is refused.
    pub queue_wait: Duration,
    /// How long an utterance may be kept to let its batch grow.
    pub batch_wait: Duration,
}

/// Names what waits, to take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    door: Door,
    number: u64,
}

/// Not admitted: the job goes back to its submitter.
#[derive(Clone, Debug)]
pub struct Refused<J> {
    /// As it was submitted.
    pub job: J,
    /// Overloaded, Unavailable or DeadlineExceeded.
    pub error: ParseError,
}

/// What was admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted<J> {
    /// As it was submitted.
    pub job: J,
    /// Since when it waited.
    pub since: Instant,
}

/// What a worker thread does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<J> {
    /// Run these together.
    Batch {
        /// At most `max_batch`; none where there was nothing but expired work.
        jobs: Vec<Admitted<J>>,
        /// Their deadline passed while they waited; their submitters are to be told.
        expired: Vec<J>,
    },
    /// Nothing to do: until this moment, or until something is submitted or admission closes.
    Wait(Option<Instant>),
}

/// The queue. `J` is what the shell needs to run and answer an utterance, opaque here.
#[derive(Debug)]
pub struct Admission<J> {
    limits: Limits,
    grpc: VecDeque<Waiting<J>>,
    mqtt: VecDeque<Waiting<J>>,
    next_number: u64,
    /// Whose turn it is where both wait.
    turn: Door,
    /// Utterances in the batches that worker threads run now.
    running: usize,
    /// Time of one worker thread for one utterance; none before the first batch.
    service: Option<Duration>,
    closed: bool,
}

#[derive(Debug)]
struct Waiting<J> {
    number: u64,
    since: Instant,
    deadline: Option<Instant>,
    job: J,
}

impl<J> Admission<J> {
    /// An open, empty queue.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: Limits { threads: limits.threads.max(1), max_batch: limits.max_batch.max(1), ..limits },
            grpc: VecDeque::new(),
            mqtt: VecDeque::new(),
            next_number: 0,
            turn: Door::Grpc,
            running: 0,
            service: None,
            closed: false,
        }
    }

    /// Admits a job, or refuses it at once.
    pub fn submit(
        &mut self,
        now: Instant,
        door: Door,
        deadline: Option<Instant>,
        job: J,
    ) -> Result<Ticket, Refused<J>> {
        if let Err(error) = self.admits(now, door, deadline) {
            return Err(Refused { job, error });
        }
        let number = self.next_number;
        self.next_number += 1;
        self.queue_mut(door).push_back(Waiting { number, since: now, deadline, job });
        Ok(Ticket { door, number })
    }

    /// Takes a job back that still waits.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<J> {
        let queue = self.queue_mut(ticket.door);
        let index = queue.binary_search_by_key(&ticket.number, |waiting| waiting.number).ok()?;
        queue.remove(index).map(|waiting| waiting.job)
    }

    /// What a free worker thread does next. Nothing that is expired or cancelled ever enters a batch.
    pub fn next(&mut self, now: Instant) -> Next<J> {
        let mut expired = Vec::new();
        for door in [Door::Grpc, Door::Mqtt] {
            take_expired(self.queue_mut(door), now, &mut expired);
        }
        match self.grows_until(now) {
            Some(until) if expired.is_empty() => Next::Wait(Some(until)),
            Some(_) => Next::Batch { jobs: Vec::new(), expired },
            None if expired.is_empty() && self.depth() == 0 => Next::Wait(None),
            None => Next::Batch { jobs: self.take_batch(), expired },
        }
    }

    /// A worker thread has finished a batch of `count` utterances in the time `took`.
    pub fn on_finished(&mut self, count: usize, took: Duration) {
        self.running = self.running.saturating_sub(count);
        let Ok(count @ 1..) = u32::try_from(count) else { return };
        let each = took / count;
        self.service =
            Some(self.service.map_or(each, |mean| mean.mul_f64(1.0 - SMOOTHING) + each.mul_f64(SMOOTHING)));
    }

    /// Refuses what comes from now on; what was admitted is still served, without waiting for batches to grow.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many wait at both doors.
    pub fn depth(&self) -> usize {
        self.grpc.len() + self.mqtt.len()
    }

    /// How long a job that is submitted now will wait, by what the latest batches took.
    pub fn expected_wait(&self, door: Door) -> Duration {
        let (own, other) = (self.queue(door).len(), self.queue(door.other()).len());
        // The doors take turns: of the other queue, at most one goes before each of ours. How far the batches are that
        // run now is not known, so they count in full.
        let ahead = own + other.min(own + 1) + self.running;
        let service = self.service.unwrap_or_default();
        service.mul_f64(ahead as f64 / self.limits.threads as f64)
    }

    fn admits(&self, now: Instant, door: Door, deadline: Option<Instant>) -> Result<(), ParseError> {
        if self.closed {
            return Err(ParseError::Unavailable("the daemon is draining; try another, or again later"));
        }
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(ParseError::DeadlineExceeded);
        }
        let wait = self.expected_wait(door);
        let too_late = match door {
            Door::Grpc => {
                let patience = deadline.map_or(Duration::MAX, |deadline| deadline - now);
                wait > self.limits.queue_wait.min(patience)
            }
            Door::Mqtt => false,
        };
        if too_late || self.queue(door).len() >= self.places(door) {
            let (shortest, longest) = RETRY_AFTER;
            return Err(ParseError::Overloaded { retry_after: wait.clamp(shortest, longest) });
        }
        Ok(())
    }

    /// When the batch that is forming must start, if it may still grow.
    fn grows_until(&self, now: Instant) -> Option<Instant> {
        let oldest =
            [self.grpc.front(), self.mqtt.front()].into_iter().flatten().map(|waiting| waiting.since);
        let start = oldest.min()? + self.limits.batch_wait;
        if self.closed || self.depth() >= self.limits.max_batch || start <= now {
            return None;
        }
        let deadlines = self.grpc.iter().chain(&self.mqtt).filter_map(|waiting| waiting.deadline);
        deadlines.chain([start]).min()
    }

    fn take_batch(&mut self) -> Vec<Admitted<J>> {
        let size = self.depth().min(self.limits.max_batch);
        let mut jobs = Vec::with_capacity(size);
        while jobs.len() < size {
            let waiting = self.queue_mut(self.turn).pop_front();
            self.turn = self.turn.other();
            jobs.extend(waiting.map(|waiting| Admitted { job: waiting.job, since: waiting.since }));
        }
        self.running += jobs.len();
        jobs
    }

    fn places(&self, door: Door) -> usize {
        match door {
            Door::Grpc => self.limits.grpc_places,
            Door::Mqtt => self.limits.mqtt_places,
        }
    }

    fn queue(&self, door: Door) -> &VecDeque<Waiting<J>> {
        match door {
            Door::Grpc => &self.grpc,
            Door::Mqtt => &self.mqtt,
        }
    }

    fn queue_mut(&mut self, door: Door) -> &mut VecDeque<Waiting<J>> {
        match door {
            Door::Grpc => &mut self.grpc,
            Door::Mqtt => &mut self.mqtt,
        }
    }
}

fn take_expired<J>(queue: &mut VecDeque<Waiting<J>>, now: Instant, expired: &mut Vec<J>) {
    let is_expired = |waiting: &Waiting<J>| waiting.deadline.is_some_and(|deadline| deadline <= now);
    let mut index = 0;
    while index < queue.len() {
        if is_expired(&queue[index]) {
            expired.extend(queue.remove(index).map(|waiting| waiting.job));
        } else {
            index += 1;
        }
    }
}
