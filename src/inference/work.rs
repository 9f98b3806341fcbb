//! What is asked of a worker thread: to understand an utterance, or to answer a question; each with the place where its
//! answer is waited for. Somebody who went away needs none, so whether an answer arrives is never looked at.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use intentd_core::admission::{question_work, text_work};
use intentd_core::attempts::Fingerprint;
use intentd_core::{Answer, Effort, ModelRef, Outcome, ParseError, Question, Understanding, Utterance};
use intentd_engine::Worker;

use super::{Answered, Job, Parsed, Reply, Timing};

pub(super) enum Work {
    Utterance(Utterance, Reply<Arc<Parsed>>),
    Question(Question, Reply<Answered>),
}

/// What an engine made of it.
#[derive(Debug)]
pub(super) enum Made {
    Understanding(Understanding),
    Answer(Answer),
}

impl Work {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Utterance(utterance, _) => Fingerprint::of(utterance),
            Self::Question(question, _) => Fingerprint::of_question(question),
        }
    }

    /// How much there is to do, as admission counts.
    pub(super) fn effort(&self) -> u64 {
        match self {
            Self::Utterance(utterance, _) => text_work(utterance.text.len()),
            Self::Question(question, _) => {
                question_work(question.question.len(), question.passages.iter().map(String::len))
            }
        }
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Utterance(..) => "utterance",
            Self::Question(..) => "question",
        }
    }

    pub(super) fn refuse(self, error: ParseError) {
        match self {
            Self::Utterance(_, reply) => drop(reply.send(Err(error))),
            Self::Question(_, reply) => drop(reply.send(Err(error))),
        }
    }

    /// Sends the answer; that to an utterance is returned as well.
    pub(super) fn answer(self, made: Made, model: ModelRef, timing: Timing) -> Option<Arc<Parsed>> {
        match (self, made) {
            (Self::Utterance(utterance, reply), Made::Understanding(understanding)) => {
                let parsed = Arc::new(Parsed { utterance, understanding, model, timing });
                let _ = reply.send(Ok(Arc::clone(&parsed)));
                Some(parsed)
            }
            (Self::Question(question, reply), Made::Answer(answer)) => {
                let _ = reply.send(Ok(Answered { id: question.id, answer, model, timing }));
                None
            }
            (work, _) => {
                work.refuse(ParseError::Internal("the answer is of another kind".to_owned()));
                None
            }
        }
    }
}

impl Made {
    /// Name in metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Understanding(understanding) => match understanding.outcome {
                Outcome::Recognized => "RECOGNIZED",
                Outcome::Uncertain => "UNCERTAIN",
                Outcome::NotRecognized => "NOT_RECOGNIZED",
            },
            Self::Answer(Answer { span: Some(_), .. }) => "ANSWERABLE",
            Self::Answer(Answer { span: None, .. }) => "NOT_ANSWERABLE",
        }
    }

    pub(super) fn effort(&self) -> Effort {
        match self {
            Self::Understanding(understanding) => understanding.effort,
            Self::Answer(answer) => answer.effort,
        }
    }
}

/// Has every job done by the worker of its bundle: the utterances of a bundle together, questions one by one, since each
/// is a batch of its own.
pub(super) fn make(workers: &mut [Worker], jobs: &[&Job]) -> Vec<Result<Made, ParseError>> {
    let mut made: Vec<_> = jobs.iter().map(|_| Err(failed())).collect();
    for (bundle, worker) in workers.iter_mut().enumerate() {
        let (mut places, mut utterances) = (Vec::new(), Vec::new());
        for (place, job) in jobs.iter().enumerate().filter(|(_, job)| job.bundle == bundle) {
            match &job.work {
                Work::Utterance(utterance, _) => {
                    tracing::trace!(id = utterance.id, text = utterance.text, "enters inference");
                    places.push(place);
                    utterances.push(utterance);
                }
                Work::Question(question, reply) => {
                    tracing::trace!(id = question.id, text = question.question, "enters inference");
                    // A question can take as long as a hundred utterances.
                    let answer = guarded(|| worker.answer_while(question, || !reply.is_closed()));
                    made[place] = answer.unwrap_or_else(|| Err(failed())).map(Made::Answer);
                }
            }
        }
        if utterances.is_empty() {
            continue;
        }
        let understood = guarded(|| worker.parse(&utterances)).unwrap_or_default();
        for (place, understanding) in places.into_iter().zip(understood) {
            made[place] = understanding.map(Made::Understanding);
        }
    }
    made
}

fn failed() -> ParseError {
    ParseError::Internal("inference failed".to_owned())
}

/// None after a panic.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.inspect_err(|_| tracing::error!("inference panicked")).ok()
}
