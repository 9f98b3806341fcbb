//! Worker threads around the engines. Both doors submit here; admission decides who waits, who is refused and
//! what runs together. Inference never runs on the runtime's threads: it would hold up keep-alives and streams.

mod work;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use intentd_core::admission::{Admission, Admitted, Door, Limits, Next, Ticket};
use intentd_core::attempts::Fingerprint;
use intentd_core::delivery::MAX_ATTEMPTS;
use intentd_core::{Answer, Effort, ModelRef, ParseError, Question, Understanding, Utterance};
use intentd_engine::{Worker, WorkerError};
use tokio::sync::{broadcast, oneshot};

use crate::attempts::AttemptsFile;
use crate::health::{Health, Loop};
use crate::model::Models;
use crate::telemetry::Metrics;
use work::{Made, Work};

/// Answers that a watcher may lag behind before it is told that it missed some.
const WATCH_BACKLOG: usize = 1024;

/// How long an idle worker sleeps before it shows the watchdog that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// An utterance and what was made of it.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// As it was handed in.
    pub utterance: Utterance,
    /// The engine's answer.
    pub understanding: Understanding,
    /// The bundle that answered.
    pub model: ModelRef,
    /// Where the time went.
    pub timing: Timing,
}

/// A question's answer.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The question's id.
    pub id: String,
    /// The engine's answer.
    pub answer: Answer,
    /// The bundle that answered.
    pub model: ModelRef,
    /// Where the time went.
    pub timing: Timing,
}

/// Where the time of one utterance or question went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Wordpieces that the encoder read.
    pub tokens: u32,
    /// From admission to the start of its batch.
    pub queue: Duration,
    /// Text to wordpieces.
    pub tokenize: Duration,
    /// Wordpieces to the answer.
    pub inference: Duration,
    /// From admission to the answer.
    pub total: Duration,
}

/// The engines behind admission, shared by both doors.
#[derive(Clone)]
pub struct Inference {
    shared: Arc<Shared>,
}

struct Shared {
    models: Models,
    attempts: AttemptsFile,
    admission: Mutex<Admission<Job>>,
    work: Condvar,
    watchers: broadcast::Sender<Arc<Parsed>>,
    metrics: Metrics,
    health: Health,
}

struct Job {
    door: Door,
    /// Place of the bundle among the models.
    bundle: usize,
    work: Work,
}

type Reply<T> = oneshot::Sender<Result<T, ParseError>>;

impl Inference {
    /// Starts the worker threads.
    pub fn start(
        models: Models,
        attempts: AttemptsFile,
        limits: Limits,
        metrics: Metrics,
        health: Health,
    ) -> std::io::Result<(Self, Workers)> {
        let shared = Arc::new(Shared {
            models,
            attempts,
            admission: Mutex::new(Admission::new(limits)),
            work: Condvar::new(),
            watchers: broadcast::channel(WATCH_BACKLOG).0,
            metrics,
            health,
        });
        let handles = (0..limits.threads)
            .map(|i| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new().name(format!("inference-{i}")).spawn(move || shared.work(i))
            })
            .collect::<Result<_, _>>()?;
        let inference = Self { shared };
        Ok((inference.clone(), Workers { inference, handles }))
    }

    /// Submits an utterance and waits for its answer. Dropping the future takes the utterance out of the queue.
    pub async fn submit(
        &self,
        door: Door,
        utterance: Utterance,
        deadline: Option<Instant>,
    ) -> Result<Arc<Parsed>, ParseError> {
        utterance.validate()?;
        let bundle = self.shared.models.place("options.bundle", &utterance.options.bundle)?;
        self.queue(door, bundle, deadline, |reply| Work::Utterance(utterance, reply)).await
    }

    /// Submits a question, with the same promises.
    pub async fn ask(
        &self,
        door: Door,
        question: Question,
        deadline: Option<Instant>,
    ) -> Result<Answered, ParseError> {
        question.validate()?;
        let bundle = self.shared.models.place("bundle", &question.bundle)?;
        self.queue(door, bundle, deadline, |reply| Work::Question(question, reply)).await
    }

    async fn queue<T>(
        &self,
        door: Door,
        bundle: usize,
        deadline: Option<Instant>,
        work: impl FnOnce(Reply<T>) -> Work,
    ) -> Result<T, ParseError> {
        let (reply, replied) = oneshot::channel();
        let job = Job { door, bundle, work: work(reply) };
        let attempts = self.shared.attempts.deaths(job.work.fingerprint());
        if attempts >= MAX_ATTEMPTS {
            let what = job.work.name();
            let message =
                format!("the process has died on this {what} {attempts} times; it is not tried again");
            return Err(ParseError::Internal(message));
        }
        let admitted = {
            let mut admission = self.shared.lock();
            let effort = job.work.effort();
            let admitted = admission.submit(Instant::now(), door, deadline, effort, job);
            self.shared.metrics.queue_depth.set(admission.depth() as i64);
            admitted
        };
        let ticket = admitted.map_err(|refused| {
            self.shared.count_refusal(door, &refused.error);
            refused.error
        })?;
        self.shared.work.notify_one();
        let _cancel = CancelOnDrop { shared: &self.shared, ticket };
        let received = match deadline {
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), replied).await {
                Ok(received) => received,
                Err(_) => {
                    self.shared.count_refusal(door, &ParseError::DeadlineExceeded);
                    return Err(ParseError::DeadlineExceeded);
                }
            },
            None => replied.await,
        };
        received.unwrap_or(Err(ParseError::Unavailable("the daemon is stopping")))
    }

    /// How often earlier lives of this process died on this utterance.
    pub fn attempts(&self, utterance: &Utterance) -> u32 {
        self.shared.attempts.deaths(Fingerprint::of(utterance))
    }

    /// Every answer with an intent from now on, from either door.
    pub fn watch(&self) -> broadcast::Receiver<Arc<Parsed>> {
        self.shared.watchers.subscribe()
    }

    /// The engines, for what the doors tell about them.
    pub fn models(&self) -> &Models {
        &self.shared.models
    }

    /// Refuses new utterances; those admitted are still answered.
    pub fn close(&self) {
        self.shared.lock().close();
        self.shared.work.notify_all();
    }
}

/// Takes a job whose submitter went away out of the queue, so that it costs no inference.
struct CancelOnDrop<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        let mut admission = self.shared.lock();
        if admission.cancel(self.ticket).is_some() {
            self.shared.metrics.queue_depth.set(admission.depth() as i64);
        }
    }
}

/// The running worker threads.
pub struct Workers {
    inference: Inference,
    handles: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Closes admission and waits until what was admitted is answered.
    pub fn drain(self) {
        self.inference.close();
        for handle in self.handles {
            if handle.join().is_err() {
                tracing::error!("an inference thread ended by a panic");
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Admission<Job>> {
        // Admission's own code doesn't panic half-way through a change, so a poisoned lock is still consistent.
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, index: usize) {
        let engines = self.models.all().iter();
        let mut workers: Vec<Worker> =
            match engines.map(|engine| engine.worker()).collect::<Result<_, WorkerError>>() {
                Ok(workers) => workers,
                Err(error) => {
                    tracing::error!(%error, "an inference thread can't start");
                    return;
                }
            };
        while let Some(batch) = self.next_batch(index) {
            let started = Instant::now();
            self.run(&mut workers, batch, started);
        }
    }

    /// Waits for a batch; none when admission is closed and empty.
    fn next_batch(&self, index: usize) -> Option<Vec<Admitted<Job>>> {
        let mut admission = self.lock();
        loop {
            self.health.beat(Loop::Inference(index));
            let now = Instant::now();
            let next = admission.next(now);
            self.metrics.queue_depth.set(admission.depth() as i64);
            let wake = match next {
                Next::Batch { jobs, expired } => {
                    expired.into_iter().for_each(|job| self.expire(job));
                    if !jobs.is_empty() {
                        return Some(jobs);
                    }
                    continue;
                }
                Next::Wait(until) => {
                    until.map_or(HEARTBEAT, |until| until.duration_since(now).min(HEARTBEAT))
                }
            };
            if admission.is_closed() && admission.depth() == 0 {
                return None;
            }
            admission = self.work.wait_timeout(admission, wake).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn expire(&self, job: Job) {
        self.count_refusal(job.door, &ParseError::DeadlineExceeded);
        job.work.refuse(ParseError::DeadlineExceeded);
    }

    fn run(&self, workers: &mut [Worker], batch: Vec<Admitted<Job>>, started: Instant) {
        self.metrics.batch_size.observe(batch.len() as f64);
        let jobs: Vec<&Job> = batch.iter().map(|admitted| &admitted.job).collect();
        let fingerprints: Vec<Fingerprint> = jobs.iter().map(|job| job.work.fingerprint()).collect();
        let results = self.attempts.run(&fingerprints, |part| work::make(workers, &jobs[part]));
        let work = batch.iter().map(|admitted| admitted.work).sum();
        let understood = batch.iter().zip(&results).filter(|(_, result)| result.is_ok());
        let understood = understood.map(|(admitted, _)| admitted.work).sum();
        self.lock().on_finished(work, understood, started.elapsed());
        for (admitted, result) in batch.into_iter().zip(results) {
            self.answer(admitted, result, started);
        }
    }

    fn answer(&self, admitted: Admitted<Job>, result: Result<Made, ParseError>, started: Instant) {
        let Admitted { job: Job { door, bundle, work }, since, .. } = admitted;
        let queue = started.duration_since(since);
        let outcome = match &result {
            Ok(made) => made.outcome(),
            // Whoever waited has gone, and was counted then.
            Err(ParseError::DeadlineExceeded) => return,
            Err(_) => "error",
        };
        self.metrics.utterances.get_or_create(&[("door", door.as_str()), ("outcome", outcome)]).inc();
        self.metrics.queue.observe(queue.as_secs_f64());
        let made = match result {
            Ok(made) => made,
            Err(error) => return work.refuse(self.models.direct(error)),
        };
        let Effort { tokens, tokenize, inference } = made.effort();
        self.metrics.inference.observe((tokenize + inference).as_secs_f64());
        let timing = Timing { tokens, queue, tokenize, inference, total: since.elapsed() };
        let model = self.models.all()[bundle].model().clone();
        if let Some(parsed) = work.answer(made, model, timing)
            && parsed.understanding.intent.is_some()
        {
            // Fails only when nobody watches.
            let _ = self.watchers.send(parsed);
        }
    }

    fn count_refusal(&self, door: Door, error: &ParseError) {
        let reason = match error {
            ParseError::Overloaded { .. } => "overloaded",
            ParseError::DeadlineExceeded => "deadline",
            ParseError::Unavailable(_) => "unavailable",
            ParseError::Invalid(_) | ParseError::TaskMissing(_) => "invalid",
            ParseError::Internal(_) => "internal",
        };
        self.metrics.refused.get_or_create(&[("door", door.as_str()), ("reason", reason)]).inc();
    }
}
