//! The bundle's own test on this machine: the answers must be those that its author got.

use intentd_core::{Outcome, Understanding, Utterance};

use crate::bundle::{Labels, SelfTestLine};
use crate::calibrate::softmax;
use crate::worker::{Read, Worker};

/// How far a probability may be off: a flipped rounding early in the encoder changes later ones.
const TOLERANCE: f32 = 0.03;

/// Compares one vector; what differs is the error.
pub(crate) fn check(
    worker: &mut Worker,
    labels: &Labels,
    temperature: f32,
    line: &SelfTestLine,
) -> Result<(), String> {
    let utterance = Utterance { text: line.text.clone(), ..Utterance::default() };
    let admitted = worker.admit(&utterance).map_err(|e| e.to_string())?;
    let scores = worker.score(&[&admitted])?;
    let read = scores.of(0, &admitted);
    if read.tokens.ids != line.input_ids {
        return Err(format!("token ids are {:?}, not {:?}", read.tokens.ids, line.input_ids));
    }
    check_scores(&read, labels, temperature, line)?;
    let understanding = worker.understand(&utterance, &read);
    if read.intent.is_some() {
        check_intent(&understanding, line)?;
    }
    if read.slots.is_some() {
        check_slots(&understanding, line)?;
    }
    Ok(())
}

fn check_scores(
    read: &Read<'_>,
    labels: &Labels,
    temperature: f32,
    line: &SelfTestLine,
) -> Result<(), String> {
    let Some(scores) = read.intent else {
        return Ok(());
    };
    let probabilities = softmax(scores, temperature);
    if probabilities.len() != line.intent_scores.len() {
        return Err(format!("{} intent scores, not {}", probabilities.len(), line.intent_scores.len()));
    }
    let pairs = labels.intent_outputs.iter().zip(probabilities.iter().zip(&line.intent_scores));
    for (name, (got, expected)) in pairs {
        // Also false for what is no number.
        let near = (got - expected).abs() <= TOLERANCE;
        if !near {
            return Err(format!("score of {name} is {got}, not {expected} as the author got"));
        }
    }
    Ok(())
}

fn check_intent(understanding: &Understanding, line: &SelfTestLine) -> Result<(), String> {
    let outcome = match understanding.outcome {
        Outcome::Recognized => "RECOGNIZED",
        Outcome::Uncertain => "UNCERTAIN",
        Outcome::NotRecognized => "NOT_RECOGNIZED",
    };
    if outcome != line.outcome {
        return Err(format!("outcome is {outcome}, not {}", line.outcome));
    }
    // The author's intent is the best guess, whatever the outcome.
    let best = understanding.intent.as_ref().or(understanding.alternatives.first());
    let best = best.map(|intent| intent.name.as_str());
    match &line.intent {
        Some(expected) if best != Some(expected) => {
            Err(format!("intent is {}, not {expected}", best.unwrap_or("none")))
        }
        _ => Ok(()),
    }
}

fn check_slots(understanding: &Understanding, line: &SelfTestLine) -> Result<(), String> {
    let got: Vec<_> =
        understanding.slots.iter().map(|s| (s.name.as_str(), s.chars.start, s.chars.end)).collect();
    let expected: Vec<_> = line.slots.iter().map(|s| (s.name.as_str(), s.start, s.end)).collect();
    if got == expected { Ok(()) } else { Err(format!("slots are {got:?}, not {expected:?}")) }
}
