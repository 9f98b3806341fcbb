//! One thread's share of the engine: tokenise, encode a batch at once, and score with the heads that were asked for.
//! What the scores mean stands in `understand`, questions and their passages in `passages`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use intentd_core::{Invalid, InvalidKind, ParseError, Task, Understanding, Utterance};

use crate::WorkerError;
use crate::bundle::{Calibration, Labels, Manifest, task_name};
use crate::calibrate::check_filter;
use crate::decode::Decoder;
use crate::heads::{Heads, RunningHeads, Scores};
use crate::model::{Model, Running, Sequence, panic_message};
use crate::resolve::Names;
use crate::tokenizer::{Tokenizer, Tokens};

/// What all threads read.
pub(crate) struct Shared {
    pub(crate) manifest: Manifest,
    pub(crate) labels: Labels,
    pub(crate) slots: Decoder,
    pub(crate) entities: Decoder,
    pub(crate) calibration: Calibration,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) encoder: Model,
    pub(crate) heads: Heads,
    pub(crate) names: Names,
}

/// One thread's state: graphs and scratch memory.
pub struct Worker {
    pub(crate) shared: Arc<Shared>,
    graphs: Graphs,
}

struct Graphs {
    encoder: Running,
    heads: RunningHeads,
}

/// An utterance that was admitted to a batch.
pub(crate) struct Admitted {
    pub(crate) tokens: Tokens,
    pub(crate) wanted: Vec<Task>,
    pub(crate) tokenize: Duration,
}

impl Worker {
    pub(crate) fn start(shared: Arc<Shared>) -> Result<Self, WorkerError> {
        let graphs = Graphs::start(&shared)?;
        Ok(Self { shared, graphs })
    }

    /// Understands each utterance by itself: the answer does not depend on what else is in the batch.
    ///
    /// Without tasks it finds intent and slots, whichever of them the bundle has. Where no intent is asked for none can
    /// be rejected: the outcome is RECOGNIZED when something was found and NOT_RECOGNIZED when nothing was.
    pub fn parse(&mut self, utterances: &[&Utterance]) -> Vec<Result<Understanding, ParseError>> {
        match self.guarded(|worker| worker.parse_batch(utterances)) {
            Ok(answers) => answers,
            // One bad utterance costs its own answer alone.
            Err(_) if utterances.len() > 1 => {
                utterances.iter().flat_map(|utterance| self.parse(std::slice::from_ref(utterance))).collect()
            }
            Err(message) => utterances.iter().map(|_| Err(ParseError::Internal(message.clone()))).collect(),
        }
    }

    fn parse_batch(
        &mut self,
        utterances: &[&Utterance],
    ) -> Result<Vec<Result<Understanding, ParseError>>, String> {
        let batch: Vec<Result<Admitted, ParseError>> =
            utterances.iter().map(|utterance| self.admit(utterance)).collect();
        let admitted: Vec<&Admitted> = batch.iter().flatten().collect();
        let scores = self.score_all(&admitted)?;
        let mut place = 0;
        let answers = batch.iter().zip(utterances).map(|(admitted, utterance)| {
            let admitted = admitted.as_ref().map_err(Clone::clone)?;
            let read = scores.of(place, admitted);
            place += 1;
            Ok(self.shared.understand(utterance, &read))
        });
        Ok(answers.collect())
    }

    /// A panic of the runtime is an error here; the graphs, whose state it may have left half-way, start anew.
    pub(crate) fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|panic| {
            self.graphs = Graphs::start(&self.shared).map_err(|e| e.to_string())?;
            Err(format!("inference: {}", panic_message(&*panic)))
        })
    }

    /// Checks and tokenises.
    pub(crate) fn admit(&self, utterance: &Utterance) -> Result<Admitted, ParseError> {
        utterance.validate()?;
        let shared = &*self.shared;
        let wanted = shared.wanted(&utterance.options.tasks)?;
        check_filter(&shared.labels, &utterance.options.intent_filter)?;
        shared.check_language(&utterance.context.language)?;
        let started = Instant::now();
        let tokens = shared.tokenizer.tokenize(&utterance.text)?;
        Ok(Admitted { tokens, wanted, tokenize: started.elapsed() })
    }

    /// One pass for all that somebody in the batch wants.
    pub(crate) fn score_all(&mut self, batch: &[&Admitted]) -> Result<Scores, String> {
        let sequences: Vec<Sequence<'_>> = batch
            .iter()
            .map(|admitted| Sequence { ids: &admitted.tokens.ids, types: &admitted.tokens.types })
            .collect();
        self.score(&sequences, |task| batch.iter().any(|admitted| admitted.wanted.contains(&task)))
    }

    /// Runs the encoder and the heads of the wanted tasks.
    pub(crate) fn score(
        &mut self,
        sequences: &[Sequence<'_>],
        wanted: impl Fn(Task) -> bool,
    ) -> Result<Scores, String> {
        let started = Instant::now();
        if sequences.is_empty() {
            return Ok(Scores { hidden: None, heads: Default::default(), inference: Duration::ZERO });
        }
        let in_inference = |message| format!("inference: {message}");
        let hidden = self.graphs.encoder.encode(sequences).map_err(in_inference)?;
        let heads = self.graphs.heads.score(&hidden, wanted).map_err(in_inference)?;
        Ok(Scores { hidden: Some(hidden), heads, inference: started.elapsed() })
    }
}

impl Graphs {
    fn start(shared: &Shared) -> Result<Self, WorkerError> {
        Ok(Self { encoder: shared.encoder.start()?, heads: shared.heads.start()? })
    }
}

impl Shared {
    /// The tasks to do; a task that the bundle lacks is an error.
    pub(crate) fn wanted(&self, asked: &[Task]) -> Result<Vec<Task>, ParseError> {
        if asked.is_empty() {
            let usual = [Task::Intent, Task::Slots].into_iter().filter(|&task| self.manifest.has(task));
            let usual: Vec<Task> = usual.collect();
            return if usual.is_empty() {
                Err(self.lacks("neither intent nor slots, which are meant where no task is named"))
            } else {
                Ok(usual)
            };
        }
        asked.iter().try_for_each(|&task| self.require(task))?;
        Ok(asked.to_vec())
    }

    /// That the bundle has a task.
    pub(crate) fn require(&self, task: Task) -> Result<(), ParseError> {
        match self.manifest.has(task) {
            true => Ok(()),
            false => Err(self.lacks(&format!("no task {}", task_name(task)))),
        }
    }

    fn lacks(&self, what: &str) -> ParseError {
        let Manifest { name, version, tasks, .. } = &self.manifest;
        ParseError::TaskMissing(format!("bundle {name} {version} has {what}; it has {}", tasks.join(", ")))
    }

    /// By the first part of the tag: who speaks `en-GB` is understood by a bundle for `en`.
    fn check_language(&self, language: &str) -> Result<(), Invalid> {
        let primary = |tag: &str| tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        let Manifest { name, languages, .. } = &self.manifest;
        if language.is_empty() || languages.iter().any(|known| primary(known) == primary(language)) {
            return Ok(());
        }
        Err(Invalid {
            field: "context.language",
            kind: InvalidKind::BadValue,
            message: format!("bundle {name} understands {}, not {language:?}", languages.join(", ")),
        })
    }
}
