//! Admission: the one bounded queue in front of inference, shared by both doors.
//!
//! Overload is an answer, not an accident: what can't be served in time over gRPC is refused at once, with a hint when
//! to try again. Over MQTT the broker is the queue and its receive maximum the bound, so those utterances wait. The
//! doors take turns, so that a flood at one doesn't starve the other.
//!
//! Nor is work done in vain: what can't be done by its deadline, by what the latest batches took, is not admitted, and
//! enters no batch. Only a thread that has nothing else to do tries it all the same, so that an estimate gone wrong
//! corrects itself.

mod pace;
mod queue;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::pace::Pace;
pub use self::pace::{question_work, text_work};
use self::queue::{Queue, Waiting, patience};
use crate::understanding::ParseError;

/// Weight of the latest batch in the share of the doors: some ten batches make a new load felt.
const SHARE_GAIN: f64 = 0.125;

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
    /// How much work it is, for [`Admission::on_finished`].
    pub work: u64,
}

/// What a worker thread does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<J> {
    /// Run these together.
    Batch {
        /// At most `max_batch`; none where there was nothing but expired work.
        jobs: Vec<Admitted<J>>,
        /// Their deadline passed while they waited, or would pass in inference; their submitters are to be told.
        expired: Vec<J>,
    },
    /// Nothing to do: until this moment, or until something is submitted or admission closes.
    Wait(Option<Instant>),
}

/// The queue. `J` is what the shell needs to run and answer an utterance, opaque here.
#[derive(Debug)]
pub struct Admission<J> {
    limits: Limits,
    grpc: Queue<J>,
    mqtt: Queue<J>,
    next_number: u64,
    /// Whose turn it is where both wait.
    turn: Door,
    /// Worker threads that run a batch now, and the work in those batches.
    busy: usize,
    running: u64,
    /// None before the first batch.
    pace: Option<Pace>,
    /// Of the work in the latest batches, that of devices.
    devices_share: f64,
    closed: bool,
}

impl<J> Admission<J> {
    /// An open, empty queue.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: Limits { threads: limits.threads.max(1), max_batch: limits.max_batch.max(1), ..limits },
            grpc: Queue::new(),
            mqtt: Queue::new(),
            next_number: 0,
            turn: Door::Grpc,
            busy: 0,
            running: 0,
            pace: None,
            devices_share: 0.0,
            closed: false,
        }
    }

    /// Admits a job of so much `work` ([`text_work`], [`question_work`]), or refuses it at once.
    pub fn submit(
        &mut self,
        now: Instant,
        door: Door,
        deadline: Option<Instant>,
        work: u64,
        job: J,
    ) -> Result<Ticket, Refused<J>> {
        if let Err(error) = self.admits(now, door, deadline, work) {
            return Err(Refused { job, error });
        }
        let number = self.next_number;
        self.next_number += 1;
        self.queue_mut(door).push(Waiting { number, since: now, deadline, work, job });
        Ok(Ticket { door, number })
    }

    /// Takes a job back that still waits.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<J> {
        self.queue_mut(ticket.door).cancel(ticket.number)
    }

    /// What a free worker thread does next. Nothing that is expired or cancelled ever enters a batch.
    pub fn next(&mut self, now: Instant) -> Next<J> {
        let mut expired = Vec::new();
        for door in [Door::Grpc, Door::Mqtt] {
            self.queue_mut(door).take_expired(now, &mut expired);
        }
        match self.grows_until(now) {
            Some(until) if expired.is_empty() => Next::Wait(Some(until)),
            Some(_) => Next::Batch { jobs: Vec::new(), expired },
            None if expired.is_empty() && self.depth() == 0 => Next::Wait(None),
            None => Next::Batch { jobs: self.take_batch(now, &mut expired), expired },
        }
    }

    /// A worker thread has finished a batch in the time `took`: its `work`, and how much of it was `understood`. The rest
    /// was refused before inference and tells nothing of the time that work takes.
    pub fn on_finished(&mut self, work: u64, understood: u64, took: Duration) {
        self.busy = self.busy.saturating_sub(1);
        self.running = self.running.saturating_sub(work);
        if understood > 0 {
            self.pace = Some(match self.pace {
                Some(pace) => pace.then(understood, took),
                None => Pace::first(understood, took),
            });
        }
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

    fn admits(
        &self,
        now: Instant,
        door: Door,
        deadline: Option<Instant>,
        work: u64,
    ) -> Result<(), ParseError> {
        if self.closed {
            return Err(ParseError::Unavailable("the daemon is draining; try another, or again later"));
        }
        let patience = patience(deadline, now);
        if patience.is_zero() {
            return Err(ParseError::DeadlineExceeded);
        }
        let wait = self.expected_wait();
        let (shortest, longest) = RETRY_AFTER;
        let overloaded = ParseError::Overloaded { retry_after: wait.clamp(shortest, longest) };
        if self.queue(door).len() >= self.places(door) {
            return Err(overloaded);
        }
        let starts_at_once = self.busy < self.limits.threads && self.depth() == 0;
        if door == Door::Mqtt || starts_at_once {
            return Ok(());
        }
        let own = self.time_for(work as f64);
        if own > patience {
            return Err(ParseError::DeadlineExceeded);
        }
        if wait > self.limits.queue_wait.min(patience - own) {
            return Err(overloaded);
        }
        Ok(())
    }

    /// How long a request that is submitted now will hardly wait longer than, by what the latest batches took.
    fn expected_wait(&self) -> Duration {
        let (own, devices) = (&self.grpc, &self.mqtt);
        // The doors take turns: of the utterances of devices that wait, at most one goes before each of ours.
        let turns = (own.len() + 1).min(devices.len()) as f64 / devices.len().max(1) as f64;
        let waiting = own.work() as f64 + turns * devices.work() as f64;
        // More of them will come meanwhile, and have their turns as well: in the latest batches they had so much.
        let joined = own.work() as f64 / (1.0 - self.devices_share.min(0.5));
        // How far the batches are that run now is not known, so they count in full.
        let ahead = self.running as f64 + waiting.max(joined);
        self.time_for(ahead / self.limits.threads as f64)
    }

    /// One thread's time; zero while nothing is known of it.
    fn time_for(&self, work: f64) -> Duration {
        self.pace.map_or(Duration::ZERO, |pace| pace.time_for(work))
    }

    /// When the batch that is forming must start, if it may still grow.
    fn grows_until(&self, now: Instant) -> Option<Instant> {
        let oldest =
            [self.grpc.front(), self.mqtt.front()].into_iter().flatten().map(|waiting| waiting.since);
        let start = oldest.min()? + self.limits.batch_wait;
        if self.closed || self.depth() >= self.limits.max_batch {
            return None;
        }
        let takes = self.time_for((self.grpc.work() + self.mqtt.work()) as f64);
        let deadlines = self.grpc.iter().chain(self.mqtt.iter()).filter_map(|waiting| waiting.deadline);
        let in_time = deadlines.map(|deadline| deadline.checked_sub(takes).unwrap_or(now));
        in_time.chain([start]).min().filter(|&until| until > now)
    }

    /// Takes turns until the batch is full, or would with one more utterance miss a deadline. On a slow machine it is full
    /// earlier: while a batch runs, every request waits for it, and would be refused if that alone took `queue_wait`.
    fn take_batch(&mut self, now: Instant, expired: &mut Vec<J>) -> Vec<Admitted<J>> {
        let (mut jobs, mut hopeless) = (Vec::new(), Vec::new());
        let (mut work, mut of_devices, mut patience) = (0, 0, self.limits.queue_wait / 2);
        while jobs.len() < self.limits.max_batch {
            let Some(first) = self.queue(self.turn).front() else {
                if self.depth() == 0 {
                    break;
                }
                self.turn = self.turn.other();
                continue;
            };
            let own_patience = first.patience(now);
            let fits_alone = self.time_for(first.work as f64) <= own_patience;
            let with_it = (work + first.work, patience.min(own_patience));
            if fits_alone && !jobs.is_empty() && self.time_for(with_it.0 as f64) > with_it.1 {
                break;
            }
            let admitted = self.queue_mut(self.turn).pop().map(Waiting::admitted);
            if fits_alone {
                of_devices += if self.turn == Door::Mqtt { with_it.0 - work } else { 0 };
                (work, patience) = with_it;
                jobs.extend(admitted);
                self.turn = self.turn.other();
            } else {
                hopeless.extend(admitted);
            }
        }
        if work > 0 {
            self.devices_share += SHARE_GAIN * (of_devices as f64 / work as f64 - self.devices_share);
        } else if !hopeless.is_empty() {
            jobs.push(hopeless.remove(0));
        }
        expired.extend(hopeless.into_iter().map(|admitted| admitted.job));
        if !jobs.is_empty() {
            self.busy += 1;
            self.running += jobs.iter().map(|admitted| admitted.work).sum::<u64>();
        }
        jobs
    }

    fn places(&self, door: Door) -> usize {
        match door {
            Door::Grpc => self.limits.grpc_places,
            Door::Mqtt => self.limits.mqtt_places,
        }
    }

    fn queue(&self, door: Door) -> &Queue<J> {
        match door {
            Door::Grpc => &self.grpc,
            Door::Mqtt => &self.mqtt,
        }
    }

    fn queue_mut(&mut self, door: Door) -> &mut Queue<J> {
        match door {
            Door::Grpc => &mut self.grpc,
            Door::Mqtt => &mut self.mqtt,
        }
    }
}
