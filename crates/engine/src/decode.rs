//! From the scores of tags to slots: the best sequence of tags that is legal, so that no slot begins in its middle.

use std::ops::Range;

use crate::bundle::Tag;
use crate::calibrate::log_softmax;

/// Words of a slot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    /// Index into the labels' slots.
    pub(crate) slot: usize,
    /// Index of the first word and behind the last.
    pub(crate) words: Range<usize>,
    /// Geometric mean of the calibrated probabilities of its tags.
    pub(crate) confidence: f32,
}

/// Finds the spans. `scores` holds, for each word, the raw scores of all tags.
pub(crate) fn spans(tags: &[Tag], scores: &[&[f32]], temperature: f32) -> Vec<Span> {
    let path = best_path(tags, scores);
    let mut spans: Vec<Span> = Vec::new();
    for (word, &tag) in path.iter().enumerate() {
        match (tags[tag], spans.last_mut()) {
            (Tag::Begin(slot), _) => spans.push(Span { slot, words: word..word + 1, confidence: 0.0 }),
            (Tag::Inside(_), Some(span)) => span.words.end = word + 1,
            _ => {}
        }
    }
    for span in &mut spans {
        let probabilities = span.words.clone().map(|word| log_softmax(scores[word], temperature)[path[word]]);
        span.confidence = (probabilities.sum::<f32>() / span.words.len() as f32).exp();
    }
    spans
}

/// Viterbi over the legal sequences: I-x follows only B-x or I-x. The temperature divides all scores of all sequences
/// alike and the normalisation of a word adds the same to each, so raw scores decide.
fn best_path(tags: &[Tag], scores: &[&[f32]]) -> Vec<usize> {
    let mut totals: Vec<f32> = vec![];
    let mut came_from: Vec<Vec<usize>> = vec![];
    for (word, scores) in scores.iter().enumerate() {
        let anywhere = best(totals.iter().copied().enumerate());
        let mut next = Vec::with_capacity(tags.len());
        let mut from = Vec::with_capacity(tags.len());
        for (&tag, &score) in tags.iter().zip(*scores) {
            let (source, total) = match tag {
                Tag::Inside(slot) => {
                    let legal = totals.iter().copied().enumerate().filter(|(source, _)| {
                        tags[*source] == Tag::Begin(slot) || tags[*source] == Tag::Inside(slot)
                    });
                    best(legal)
                }
                _ if word == 0 => (0, 0.0),
                _ => anywhere,
            };
            next.push(total + score);
            from.push(source);
        }
        totals = next;
        came_from.push(from);
    }
    let mut tag = best(totals.into_iter().enumerate()).0;
    let mut path = vec![0; scores.len()];
    for (word, from) in came_from.iter().enumerate().rev() {
        path[word] = tag;
        tag = from[tag];
    }
    path
}

/// The first of the largest; nothing at all counts as impossible.
fn best(candidates: impl Iterator<Item = (usize, f32)>) -> (usize, f32) {
    candidates.fold((0, f32::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAGS: [Tag; 5] = [Tag::Outside, Tag::Begin(0), Tag::Inside(0), Tag::Begin(1), Tag::Inside(1)];

    fn rows(scores: &[Vec<f32>]) -> Vec<&[f32]> {
        scores.iter().map(Vec::as_slice).collect()
    }

    fn words(spans: &[Span]) -> Vec<(usize, Range<usize>)> {
        spans.iter().map(|span| (span.slot, span.words.clone())).collect()
    }

    #[test]
    fn neighbouring_slots_stay_apart() {
        let one_hot = |tag: usize| (0..5).map(|t| if t == tag { 9.0 } else { 0.0 }).collect();
        let scores: Vec<Vec<f32>> = [1, 2, 1, 0, 3, 4, 4].map(one_hot).to_vec();
        assert_eq!(words(&spans(&TAGS, &rows(&scores), 1.0)), [(0, 0..2), (0, 2..3), (1, 4..7)]);
        assert!(spans(&TAGS, &rows(&scores), 1.0).iter().all(|span| span.confidence > 0.99));
    }

    #[test]
    fn a_slot_never_begins_inside() {
        // I-0 is best at the first word, but a legal sequence must begin with O or B.
        let scores = vec![vec![0.0, 1.0, 5.0, 0.0, 0.0], vec![0.0, 0.0, 5.0, 0.0, 0.0]];
        assert_eq!(words(&spans(&TAGS, &rows(&scores), 1.0)), [(0, 0..2)]);
        // The slot of the inside decides what the begin becomes when it weighs more.
        let scores = vec![vec![0.0, 2.0, 0.0, 1.5, 0.0], vec![0.0, 0.0, 0.0, 0.0, 5.0]];
        assert_eq!(words(&spans(&TAGS, &rows(&scores), 1.0)), [(1, 0..2)]);
    }

    #[test]
    fn confidence_is_the_geometric_mean_at_the_temperature() {
        let scores = vec![vec![0.0, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY]];
        let found = spans(&TAGS, &rows(&scores), 2.0);
        assert!((found[0].confidence - 1.0 / (1.0 + (-1.0_f32).exp())).abs() < 1e-6, "{found:?}");
        assert!(spans(&TAGS, &[], 1.0).is_empty());
    }

    /// Every legal sequence, tried one by one.
    fn best_by_trying(scores: &[Vec<f32>]) -> f32 {
        let mut best = f32::NEG_INFINITY;
        for code in 0..5_usize.pow(scores.len() as u32) {
            let path: Vec<usize> = (0..scores.len()).map(|w| code / 5_usize.pow(w as u32) % 5).collect();
            let legal = path.iter().enumerate().all(|(word, &tag)| match TAGS[tag] {
                Tag::Inside(slot) => {
                    word > 0 && [Tag::Begin(slot), Tag::Inside(slot)].contains(&TAGS[path[word - 1]])
                }
                _ => true,
            });
            if legal {
                best = best.max(path.iter().zip(scores).map(|(&tag, scores)| scores[tag]).sum());
            }
        }
        best
    }

    proptest! {
        #[test]
        fn no_legal_sequence_is_better(
            scores in prop::collection::vec(prop::collection::vec(-5.0_f32..5.0, 5), 1..5)
        ) {
            let path = best_path(&TAGS, &rows(&scores));
            let total: f32 = path.iter().zip(&scores).map(|(&tag, scores)| scores[tag]).sum();
            prop_assert!((total - best_by_trying(&scores)).abs() < 1e-4);
        }
    }
}
