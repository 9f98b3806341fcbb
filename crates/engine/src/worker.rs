//! One thread's share of the engine: tokenise, encode a batch at once, score with the heads that were asked for, decode.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use intentd_core::{Effort, Outcome, ParseError, Slot, Task, Understanding, Utterance};

use crate::WorkerError;
use crate::bundle::{Calibration, Labels, Manifest, task_name};
use crate::calibrate::{Decision, check_filter, decide};
use crate::decode::{Decoder, Span};
use crate::model::{Model, Rows, Running, Sequence, panic_message};
use crate::resolve::resolve;
use crate::tokenizer::{CodePoints, Tokenizer, Tokens};

/// What all threads read.
pub(crate) struct Shared {
    pub(crate) manifest: Manifest,
    pub(crate) labels: Labels,
    pub(crate) decoder: Decoder,
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

/// An utterance that was admitted to a batch.
pub(crate) struct Admitted {
    pub(crate) tokens: Tokens,
    wanted: Vec<Task>,
    pub(crate) tokenize: Duration,
}

/// What the model says of a batch, utterance by utterance.
pub(crate) struct Scores {
    intent: Option<Rows>,
    slots: Option<Rows>,
    inference: Duration,
}

/// An utterance between model and decoding: what the self-test compares.
pub(crate) struct Read<'a> {
    pub(crate) tokens: &'a Tokens,
    /// Raw scores of the intent head, where asked for.
    pub(crate) intent: Option<&'a [f32]>,
    /// Raw scores of the slots head, `[tokens, tags]`, where asked for.
    pub(crate) slots: Option<&'a [f32]>,
    effort: Effort,
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
        match self.parse_batch(utterances) {
            Ok(answers) => answers,
            // One bad utterance costs its own answer alone.
            Err(_) if utterances.len() > 1 => {
                utterances.iter().flat_map(|utterance| self.parse(std::slice::from_ref(utterance))).collect()
            }
            Err(message) => utterances.iter().map(|_| Err(ParseError::Internal(message.clone()))).collect(),
        }
    }

    /// A panic of the runtime is an error here; the graphs, whose state it may have left half-way, start anew.
    fn parse_batch(
        &mut self,
        utterances: &[&Utterance],
    ) -> Result<Vec<Result<Understanding, ParseError>>, String> {
        let understood = catch_unwind(AssertUnwindSafe(|| {
            let batch: Vec<Result<Admitted, ParseError>> =
                utterances.iter().map(|utterance| self.admit(utterance)).collect();
            let admitted: Vec<&Admitted> = batch.iter().flatten().collect();
            let scores = self.score(&admitted)?;
            let mut place = 0;
            let answers = batch.iter().zip(utterances).map(|(admitted, utterance)| {
                let admitted = admitted.as_ref().map_err(Clone::clone)?;
                let read = scores.of(place, admitted);
                place += 1;
                Ok(self.understand(utterance, &read))
            });
            Ok(answers.collect())
        }));
        understood.unwrap_or_else(|panic| {
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
        let started = Instant::now();
        let tokens = shared.tokenizer.tokenize(&utterance.text)?;
        Ok(Admitted { tokens, wanted, tokenize: started.elapsed() })
    }

    /// Runs the encoder and every head that somebody in the batch wants.
    pub(crate) fn score(&mut self, batch: &[&Admitted]) -> Result<Scores, String> {
        let started = Instant::now();
        if batch.is_empty() {
            return Ok(Scores { intent: None, slots: None, inference: Duration::ZERO });
        }
        let sequences: Vec<Sequence<'_>> =
            batch.iter().map(|admitted| Sequence::plain(&admitted.tokens.ids)).collect();
        let hidden = self.graphs.encoder.encode(&sequences).map_err(in_inference)?;
        let score = |running: &mut Option<Running>, task: Task| match running {
            Some(running) if batch.iter().any(|admitted| admitted.wanted.contains(&task)) => {
                running.score(&hidden).map(Some).map_err(in_inference)
            }
            _ => Ok(None),
        };
        let intent = score(&mut self.graphs.intent, Task::Intent)?;
        let slots = score(&mut self.graphs.slots, Task::Slots)?;
        Ok(Scores { intent, slots, inference: started.elapsed() })
    }

    /// From scores to the answer.
    pub(crate) fn understand(&self, utterance: &Utterance, read: &Read<'_>) -> Understanding {
        let started = Instant::now();
        let shared = &*self.shared;
        let slots = read.slots.map(|scores| shared.find_slots(&utterance.text, read.tokens, scores));
        let decision = match (read.intent, &slots) {
            (Some(scores), _) => {
                decide(&shared.labels, &shared.calibration.intent, scores, &utterance.options)
            }
            (None, Some(slots)) if !slots.is_empty() => Decision::without_intent(Outcome::Recognized),
            (None, _) => Decision::without_intent(Outcome::NotRecognized),
        };
        Understanding {
            outcome: decision.outcome,
            intent: decision.intent,
            alternatives: decision.alternatives,
            slots: slots.unwrap_or_default(),
            effort: Effort { inference: read.effort.inference + started.elapsed(), ..read.effort },
        }
    }
}

impl Scores {
    /// The utterance at this place of the batch.
    pub(crate) fn of<'a>(&'a self, place: usize, admitted: &'a Admitted) -> Read<'a> {
        let rows = |scores: &'a Option<Rows>, task: Task| {
            scores.as_ref().filter(|_| admitted.wanted.contains(&task)).map(|scores| scores.of(place))
        };
        Read {
            tokens: &admitted.tokens,
            intent: rows(&self.intent, Task::Intent),
            slots: rows(&self.slots, Task::Slots),
            effort: Effort {
                tokens: admitted.tokens.ids.len() as u32,
                tokenize: admitted.tokenize,
                inference: self.inference,
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

    fn find_slots(&self, text: &str, tokens: &Tokens, scores: &[f32]) -> Vec<Slot> {
        let tags = self.labels.tags.len();
        let per_word: Vec<&[f32]> =
            tokens.words.iter().map(|word| &scores[word.first_piece * tags..][..tags]).collect();
        let found = self.decoder.spans(&per_word, self.calibration.slots.temperature);
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

fn in_inference(message: String) -> String {
    format!("inference: {message}")
}
