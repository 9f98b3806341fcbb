//! The bundle's own test on this machine: the answers must be those that its author got.

use intentd_core::{Outcome, Question, Task, Understanding, Utterance};

use crate::bundle::{QuestionVector, TextVector, Vector, VectorSpan};
use crate::calibrate::softmax;
use crate::understand::Read;
use crate::worker::Worker;

/// How far a probability may be off: a flipped rounding early in the encoder changes later ones.
const TOLERANCE: f32 = 0.03;

/// The smallest cosine between an embedding and the author's; those of two texts are far below.
const LEAST_COSINE: f32 = 0.99;

/// Compares one vector; what differs is the error.
pub(crate) fn check(worker: &mut Worker, vector: &Vector) -> Result<(), String> {
    match vector {
        Vector::Text(vector) => check_text(worker, vector),
        Vector::Question(vector) => check_question(worker, vector),
    }
}

/// Everything that the bundle tells about a text, in one pass.
fn check_text(worker: &mut Worker, vector: &TextVector) -> Result<(), String> {
    let mut utterance = Utterance { text: vector.text.clone(), ..Utterance::default() };
    utterance.options.tasks = worker.shared.manifest.supported_tasks();
    utterance.options.tasks.retain(|&task| task != Task::Answers);
    let admitted = worker.admit(&utterance).map_err(|e| e.to_string())?;
    let scores = worker.score_all(&[&admitted])?;
    let shared = &*worker.shared;
    let read = scores.of(0, &admitted);
    check_ids(&read.tokens.ids, &vector.input_ids)?;
    if shared.encoder.is_typed() {
        check_types(&read.tokens.types, vector.segment_ids.as_deref())?;
    }
    let understanding = shared.understand(&utterance, &read);
    for task in &utterance.options.tasks {
        match task {
            Task::Intent => {
                let temperature = shared.calibration.intent.map(|intent| intent.temperature);
                let (names, expected) = (&shared.labels.intent_outputs, &vector.intent_scores);
                check_scores(&read, (Task::Intent, names), temperature, expected.as_deref())?;
                check_intent(&understanding, vector)?;
            }
            Task::Slots => {
                let spans = understanding.slots.iter();
                let spans = spans.map(|slot| span(&slot.name, &slot.chars)).collect();
                check_spans("slots", spans, vector.slots.as_ref())?;
            }
            Task::Sentiment => {
                let temperature = shared.calibration.sentiment.map(|sentiment| sentiment.temperature);
                let (names, expected) = (&shared.labels.sentiment, &vector.sentiment_scores);
                check_scores(&read, (Task::Sentiment, names), temperature, expected.as_deref())?;
                let label = understanding.sentiment.as_ref().map(|sentiment| &sentiment.label);
                if label != vector.sentiment.as_ref() {
                    return Err(format!("sentiment is {label:?}, not {:?}", vector.sentiment));
                }
            }
            Task::Entities => {
                let spans = understanding.entities.iter();
                let spans = spans.map(|entity| span(&entity.kind, &entity.chars)).collect();
                check_spans("entities", spans, vector.entities.as_ref())?;
            }
            Task::Embedding => check_embedding(&understanding.embedding, vector.embedding.as_deref())?,
            Task::Answers => {}
        }
    }
    Ok(())
}

fn check_question(worker: &mut Worker, vector: &QuestionVector) -> Result<(), String> {
    let QuestionVector { question, passages, windows, answerable, score, .. } = vector;
    let question = Question { question: question.clone(), passages: passages.clone(), ..Question::default() };
    let asked = worker.shared.ask(&question).map_err(|e| e.to_string())?;
    if asked.windows().len() != windows.len() {
        return Err(format!("the passages are {} windows, not {}", asked.windows().len(), windows.len()));
    }
    for (got, expected) in asked.windows().iter().zip(windows) {
        check_ids(&got.ids, &expected.input_ids)?;
        if worker.shared.encoder.is_typed() {
            check_types(&got.types, expected.segment_ids.as_deref())?;
        }
    }
    let answer = worker.answer(&question).map_err(|e| e.to_string())?;
    if !near(answer.score, *score) {
        return Err(format!("score of the answer is {}, not {score} as the author got", answer.score));
    }
    let got = answer.span.map(|span| (Some(span.passage), Some(span.chars.start), Some(span.chars.end)));
    let expected = answerable.then_some((vector.passage, vector.start, vector.end));
    if got == expected {
        Ok(())
    } else {
        Err(format!("passage, start and end of the answer are {got:?}, not {expected:?}"))
    }
}

/// Also false for what is no number.
fn near(got: f32, expected: f32) -> bool {
    (got - expected).abs() <= TOLERANCE
}

fn lacks(what: &str) -> String {
    format!("lacks {what}, though the bundle has the task")
}

fn check_ids(got: &[u32], expected: &[u32]) -> Result<(), String> {
    if got == expected { Ok(()) } else { Err(format!("token ids are {got:?}, not {expected:?}")) }
}

fn check_types(got: &[u32], expected: Option<&[u32]>) -> Result<(), String> {
    match expected {
        Some(expected) if got == expected => Ok(()),
        Some(expected) => Err(format!("token types are {got:?}, not {expected:?}")),
        None => Err("lacks segment_ids, though the encoder takes token types".to_owned()),
    }
}

fn check_scores(
    read: &Read<'_>,
    (task, names): (Task, &[String]),
    temperature: Option<f32>,
    expected: Option<&[f32]>,
) -> Result<(), String> {
    let expected = expected.ok_or_else(|| lacks("scores"))?;
    let Some((scores, temperature)) = read.scores(task).zip(temperature) else { return Ok(()) };
    let probabilities = softmax(scores, temperature);
    if probabilities.len() != expected.len() {
        return Err(format!("{} scores, not {}", probabilities.len(), expected.len()));
    }
    let pairs = names.iter().zip(probabilities.iter().zip(expected));
    match pairs.into_iter().find(|(_, (got, expected))| !near(**got, **expected)) {
        Some((name, (got, expected))) => {
            Err(format!("score of {name} is {got}, not {expected} as the author got"))
        }
        None => Ok(()),
    }
}

fn check_intent(understanding: &Understanding, vector: &TextVector) -> Result<(), String> {
    let outcome = match understanding.outcome {
        Outcome::Recognized => "RECOGNIZED",
        Outcome::Uncertain => "UNCERTAIN",
        Outcome::NotRecognized => "NOT_RECOGNIZED",
    };
    let expected = vector.outcome.as_ref().ok_or_else(|| lacks("outcome"))?;
    if outcome != expected {
        return Err(format!("outcome is {outcome}, not {expected}"));
    }
    // The author's intent is the best guess, whatever the outcome.
    let best = understanding.intent.as_ref().or(understanding.alternatives.first());
    let best = best.map(|intent| intent.name.as_str());
    match &vector.intent {
        Some(expected) if best != Some(expected) => {
            Err(format!("intent is {}, not {expected}", best.unwrap_or("none")))
        }
        _ => Ok(()),
    }
}

fn span(name: &str, chars: &std::ops::Range<u32>) -> VectorSpan {
    VectorSpan { name: name.to_owned(), start: chars.start, end: chars.end }
}

fn check_spans(what: &str, got: Vec<VectorSpan>, expected: Option<&Vec<VectorSpan>>) -> Result<(), String> {
    let expected = expected.ok_or_else(|| lacks(what))?;
    if got == *expected { Ok(()) } else { Err(format!("{what} are {got:?}, not {expected:?}")) }
}

fn check_embedding(got: &[f32], expected: Option<&[f32]>) -> Result<(), String> {
    let expected = expected.ok_or_else(|| lacks("embedding"))?;
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let cosine = dot(got, expected) / (dot(got, got) * dot(expected, expected)).sqrt();
    // Not the other way round: a cosine that is no number is wrong as well.
    if got.len() == expected.len() && cosine >= LEAST_COSINE {
        return Ok(());
    }
    let (got, expected) = (got.len(), expected.len());
    Err(format!("the embedding, of {got} values, has a cosine of {cosine} to the author's {expected} values"))
}
