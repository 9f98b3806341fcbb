//! One thread's share of the engine: tokenise, encode, score with the heads that were asked for, decode.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use intentd_core::{Effort, Outcome, ParseError, Slot, Task, Understanding, Utterance};

use crate::WorkerError;
use crate::bundle::{Calibration, Labels, Manifest, task_name};
use crate::calibrate::{Decision, check_filter, decide};
use crate::decode::{Span, spans};
use crate::model::{Model, Running, Values, panic_message};
use crate::resolve::resolve;
use crate::tokenizer::{CodePoints, Tokenizer, Tokens};

/// What all threads read.
pub(crate) struct Shared {
    pub(crate) manifest: Manifest,
    pub(crate) labels: Labels,
    pub(crate) calibration: Calibration,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) encoder: Model,
    /// Only those of the bundle's tasks.
    pub(crate) intent: Option<Model>,
    pub(crate) slots: Option<Model>,
}

/// One thread's state: graphs and scratch memory.
pub struct Worker {
    shared: Arc<Shared>,
    graphs: Graphs,
}

struct Graphs {
    encoder: Running,
    intent: Option<Running>,
    slots: Option<Running>,
}

/// An utterance between tokenizer and decoding: what the self-test compares.
pub(crate) struct Read {
    pub(crate) tokens: Tokens,
    /// Raw scores of the intent head, where asked for.
    pub(crate) intent: Option<Values>,
    /// Raw scores of the slots head, where asked for.
    pub(crate) slots: Option<Values>,
    pub(crate) tokenize: Duration,
}

impl Worker {
    pub(crate) fn start(shared: Arc<Shared>) -> Result<Self, WorkerError> {
        let graphs = Graphs::start(&shared)?;
        Ok(Self { shared, graphs })
    }

    /// Understands each utterance by itself: the answer does not depend on what else is in the batch.
    ///
    /// Without tasks it finds intent and slots, whichever of them the bundle has. Where only slots are asked for, no
    /// intent can be rejected: the outcome is RECOGNIZED when a slot was found and NOT_RECOGNIZED when none was.
    pub fn parse(&mut self, utterances: &[&Utterance]) -> Vec<Result<Understanding, ParseError>> {
        utterances.iter().map(|utterance| self.parse_one(utterance)).collect()
    }

    /// A panic of the runtime costs this utterance alone: the graphs, whose state it may have left half-way, start anew.
    fn parse_one(&mut self, utterance: &Utterance) -> Result<Understanding, ParseError> {
        let understood = catch_unwind(AssertUnwindSafe(|| {
            let started = Instant::now();
            let read = self.read(utterance)?;
            Ok(self.understand(utterance, &read, started))
        }));
        understood.unwrap_or_else(|panic| {
            self.graphs = Graphs::start(&self.shared).map_err(|e| ParseError::Internal(e.to_string()))?;
            Err(ParseError::Internal(format!("inference: {}", panic_message(&*panic))))
        })
    }

    /// From text to scores.
    pub(crate) fn read(&mut self, utterance: &Utterance) -> Result<Read, ParseError> {
        utterance.validate()?;
        let shared = &*self.shared;
        let wanted = shared.wanted(&utterance.options.tasks)?;
        check_filter(&shared.labels, &utterance.options.intent_filter)?;
        let started = Instant::now();
        let tokens = shared.tokenizer.tokenize(&utterance.text)?;
        let tokenize = started.elapsed();

        let hidden = self.graphs.encoder.encode(&tokens.ids).map_err(internal)?;
        let score = |running: &mut Option<Running>, task: Task| match running {
            Some(running) if wanted.contains(&task) => running.score(&hidden).map(Some).map_err(internal),
            _ => Ok(None),
        };
        let intent = score(&mut self.graphs.intent, Task::Intent)?;
        let slots = score(&mut self.graphs.slots, Task::Slots)?;
        Ok(Read { tokens, intent, slots, tokenize })
    }

    /// From scores to the answer.
    pub(crate) fn understand(&self, utterance: &Utterance, read: &Read, started: Instant) -> Understanding {
        let shared = &*self.shared;
        let slots =
            read.slots.as_ref().map(|scores| shared.find_slots(&utterance.text, &read.tokens, scores));
        let decision = match (&read.intent, &slots) {
            (Some(scores), _) => {
                decide(&shared.labels, &shared.calibration.intent, scores.as_slice(), &utterance.options)
            }
            (None, Some(slots)) if !slots.is_empty() => Decision::without_intent(Outcome::Recognized),
            (None, _) => Decision::without_intent(Outcome::NotRecognized),
        };
        Understanding {
            outcome: decision.outcome,
            intent: decision.intent,
            alternatives: decision.alternatives,
            slots: slots.unwrap_or_default(),
            effort: Effort {
                tokens: read.tokens.ids.len() as u32,
                tokenize: read.tokenize,
                inference: started.elapsed().saturating_sub(read.tokenize),
            },
        }
    }
}

impl Graphs {
    fn start(shared: &Shared) -> Result<Self, WorkerError> {
        Ok(Self {
            encoder: shared.encoder.start()?,
            intent: shared.intent.as_ref().map(Model::start).transpose()?,
            slots: shared.slots.as_ref().map(Model::start).transpose()?,
        })
    }
}

impl Shared {
    /// The tasks to do; a task that the bundle lacks is an error.
    fn wanted(&self, asked: &[Task]) -> Result<Vec<Task>, ParseError> {
        let has = |task: &Task| match task {
            Task::Intent => self.intent.is_some(),
            Task::Slots => self.slots.is_some(),
            Task::Sentiment | Task::Entities | Task::Embedding => false,
        };
        if asked.is_empty() {
            return Ok([Task::Intent, Task::Slots].into_iter().filter(has).collect());
        }
        match asked.iter().find(|task| !has(task)) {
            Some(&task) => Err(ParseError::TaskMissing(format!(
                "bundle {} {} has no task {}; it has {}",
                self.manifest.name,
                self.manifest.version,
                task_name(task),
                self.manifest.tasks.join(", ")
            ))),
            None => Ok(asked.to_vec()),
        }
    }

    fn find_slots(&self, text: &str, tokens: &Tokens, scores: &Values) -> Vec<Slot> {
        let (all, count) = (scores.as_slice(), scores.tokens());
        let per_word: Vec<Vec<f32>> = tokens
            .words
            .iter()
            .map(|word| all.iter().skip(word.first_piece).step_by(count).copied().collect())
            .collect();
        let found = spans(&self.labels.tags, &per_word, self.calibration.slots.temperature);
        let mut code_points = CodePoints::new(text);
        found.iter().map(|span| self.slot(text, tokens, span, &mut code_points)).collect()
    }

    fn slot(&self, text: &str, tokens: &Tokens, span: &Span, code_points: &mut CodePoints<'_>) -> Slot {
        let words = &tokens.words[span.words.clone()];
        let start = words.first().map_or(0, |word| word.bytes.start);
        let end = words.last().map_or(start, |word| word.bytes.end);
        let raw_value = text.get(start..end).unwrap_or_default();
        let name = &self.labels.slots[span.slot];
        Slot {
            name: name.clone(),
            raw_value: raw_value.to_owned(),
            value: resolve(name, raw_value),
            chars: code_points.before(start)..code_points.before(end),
            bytes: start as u32..end as u32,
            confidence: span.confidence,
        }
    }
}

fn internal(message: String) -> ParseError {
    ParseError::Internal(format!("inference: {message}"))
}
