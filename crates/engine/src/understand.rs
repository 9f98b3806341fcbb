//! From the scores of one utterance to what was understood.

use std::ops::Range;
use std::time::Instant;

use intentd_core::{Effort, Entity, Outcome, Sentiment, Slot, Task, Understanding, Utterance};

use crate::bundle::TagsCalibration;
use crate::calibrate::{Decision, decide, mood};
use crate::decode::{Decoder, Span};
use crate::heads::Scores;
use crate::resolve::resolve;
use crate::tokenizer::{CodePoints, Tokens};
use crate::worker::{Admitted, Shared};

/// An utterance between model and decoding: what the self-test compares.
pub(crate) struct Read<'a> {
    pub(crate) tokens: &'a Tokens,
    scores: &'a Scores,
    place: usize,
    wanted: &'a [Task],
    effort: Effort,
}

/// A span of a text in all its forms.
struct Place<'a> {
    text: &'a str,
    chars: Range<u32>,
    bytes: Range<u32>,
}

impl Scores {
    /// The utterance at this place of the batch.
    pub(crate) fn of<'a>(&'a self, place: usize, admitted: &'a Admitted) -> Read<'a> {
        let effort = Effort {
            tokens: admitted.tokens.ids.len() as u32,
            tokenize: admitted.tokenize,
            inference: self.inference,
        };
        Read { tokens: &admitted.tokens, scores: self, place, wanted: &admitted.wanted, effort }
    }
}

impl<'a> Read<'a> {
    /// Raw scores of a head that was asked for: `[outputs]`, or `[tokens, outputs]`.
    pub(crate) fn scores(&self, task: Task) -> Option<&'a [f32]> {
        let rows = self.scores.heads.get(&task).filter(|_| self.wanted.contains(&task));
        rows.map(|rows| rows.of(self.place))
    }

    /// Hidden states of an embedding that was asked for, `[tokens, width]`, and their width.
    fn hidden(&self) -> Option<(&'a [f32], usize)> {
        let rows = self.scores.hidden.as_ref().filter(|_| self.wanted.contains(&Task::Embedding));
        rows.map(|rows| (rows.of(self.place), rows.width()))
    }
}

impl Shared {
    /// From scores to the answer.
    pub(crate) fn understand(&self, utterance: &Utterance, read: &Read<'_>) -> Understanding {
        let started = Instant::now();
        let text = utterance.text.as_str();
        let slots = self.find(Task::Slots, &self.slots, self.calibration.slots, read);
        let entities = self.find(Task::Entities, &self.entities, self.calibration.entities, read);
        let sentiment = self.sentiment(read);
        let embedding = read.hidden().map_or_else(Vec::new, |(hidden, width)| embedding(hidden, width));
        let intent = read.scores(Task::Intent).zip(self.calibration.intent.as_ref());
        let found = [!slots.is_empty(), !entities.is_empty(), sentiment.is_some(), !embedding.is_empty()];
        let decision = match intent {
            Some((scores, calibration)) => decide(&self.labels, calibration, scores, &utterance.options),
            None if found.contains(&true) => Decision::without_intent(Outcome::Recognized),
            None => Decision::without_intent(Outcome::NotRecognized),
        };
        Understanding {
            outcome: decision.outcome,
            intent: decision.intent,
            alternatives: decision.alternatives,
            slots: self.name(text, places(text, read.tokens, &slots)),
            sentiment,
            entities: places(text, read.tokens, &entities)
                .map(|(span, place)| self.entity(span, place))
                .collect(),
            embedding,
            effort: Effort { inference: read.effort.inference + started.elapsed(), ..read.effort },
        }
    }

    /// The spans of a head that tags words; it is read at each word's first piece.
    fn find(
        &self,
        task: Task,
        decoder: &Decoder,
        calibration: Option<TagsCalibration>,
        read: &Read<'_>,
    ) -> Vec<Span> {
        let Some((scores, calibration)) = read.scores(task).zip(calibration) else { return Vec::new() };
        let tags = self.labels.outputs(task);
        let words = read.tokens.words.iter();
        let per_word: Vec<&[f32]> = words.map(|word| &scores[word.first_piece * tags..][..tags]).collect();
        decoder.spans(&per_word, calibration.temperature)
    }

    fn sentiment(&self, read: &Read<'_>) -> Option<Sentiment> {
        let (scores, calibration) = read.scores(Task::Sentiment).zip(self.calibration.sentiment)?;
        mood(&self.labels, calibration.temperature, scores)
    }

    /// The slots with their values. A name of the site's that stands in the text takes the place of the slots inside it, or one
    /// of its own where the bundle saw none: what the site calls its things is certain, and no bundle has learnt it.
    fn name<'a>(&self, text: &str, found: impl Iterator<Item = (&'a Span, Place<'a>)>) -> Vec<Slot> {
        let mut slots: Vec<Slot> = found.map(|(span, place)| self.slot(span, place)).collect();
        for name in self.names.spot(text) {
            let bytes = name.bytes.start as u32..name.bytes.end as u32;
            let touches = |slot: &Slot| slot.bytes.start < bytes.end && bytes.start < slot.bytes.end;
            let inside = |slot: &Slot| bytes.start <= slot.bytes.start && slot.bytes.end <= bytes.end;
            let touched: Vec<&Slot> = slots.iter().filter(|slot| touches(slot)).collect();
            let known = touched.iter().find(|slot| name.slots.contains(&slot.name.as_str()));
            let Some(slot) = known.map(|slot| slot.name.as_str()).or(one(&name.slots)) else { continue };
            if touched.iter().any(|slot| !inside(slot) || slot.bytes == bytes) {
                continue;
            }
            let confidence = touched.iter().map(|slot| slot.confidence).fold(1.0, f32::min);
            let mut points = CodePoints::new(text);
            let chars = points.before(name.bytes.start)..points.before(name.bytes.end);
            let place = Place { text: &text[name.bytes], chars, bytes: bytes.clone() };
            let slot = self.slot_of(slot, confidence, place);
            slots.retain(|slot| !touches(slot));
            slots.insert(slots.partition_point(|other| other.bytes.start < bytes.start), slot);
        }
        slots
    }

    fn slot(&self, span: &Span, place: Place<'_>) -> Slot {
        self.slot_of(&self.labels.slots[span.kind], span.confidence, place)
    }

    fn slot_of(&self, name: &str, confidence: f32, Place { text, chars, bytes }: Place<'_>) -> Slot {
        let (name, value) = resolve(name, text, &self.names);
        Slot { name: name.to_owned(), raw_value: text.to_owned(), value, chars, bytes, confidence }
    }

    fn entity(&self, span: &Span, Place { text, chars, bytes }: Place<'_>) -> Entity {
        let kind = self.labels.entities[span.kind].clone();
        Entity { kind, text: text.to_owned(), chars, bytes, confidence: span.confidence }
    }
}

/// The only one.
fn one<'a>(slots: &[&'a str]) -> Option<&'a str> {
    match slots {
        [slot] => Some(slot),
        _ => None,
    }
}

/// Where spans, in the order of the text, stand in it.
fn places<'a>(
    text: &'a str,
    tokens: &'a Tokens,
    spans: &'a [Span],
) -> impl Iterator<Item = (&'a Span, Place<'a>)> {
    let mut code_points = CodePoints::new(text);
    spans.iter().map(move |span| {
        let words = &tokens.words[span.words.clone()];
        let start = words.first().map_or(0, |word| word.bytes.start);
        let end = words.last().map_or(start, |word| word.bytes.end);
        let place = Place {
            text: text.get(start..end).unwrap_or_default(),
            chars: code_points.before(start)..code_points.before(end),
            bytes: start as u32..end as u32,
        };
        (span, place)
    })
}

/// The mean of the hidden states of all tokens, the marks among them, at length 1. Summed from the first on: the same
/// text gives the same bits.
pub(crate) fn embedding(hidden: &[f32], width: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f32; width];
    for row in hidden.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let length = sums.iter().map(|sum| sum * sum).sum::<f32>().sqrt();
    if length > 0.0 {
        sums.iter_mut().for_each(|sum| *sum /= length);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedding_is_the_mean_at_length_1() {
        assert_eq!(embedding(&[1.0, 0.0, 5.0, 8.0], 2), [0.6, 0.8]);
        assert_eq!(embedding(&[0.0, 0.0], 2), [0.0, 0.0]);
    }
}
