//! From the scores of tags to spans (slots, entities): the best sequence of tags that is legal, so that no span begins in
//! its middle. What the bundle says of tags that follow each other counts too.

use std::ops::Range;

use crate::bundle::{Tag, Tags};
use crate::calibrate::log_softmax;

/// Words that belong together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    /// Which kind of slot or entity: an index into the labels.
    pub(crate) kind: usize,
    /// Index of the first word and behind the last.
    pub(crate) words: Range<usize>,
    /// Geometric mean of the calibrated probabilities of its tags.
    pub(crate) confidence: f32,
}

/// What is known of the tags before any text comes.
pub(crate) struct Decoder {
    tags: Vec<Tag>,
    /// For each tag the only ones that may stand before it; none where any may, and a text may begin with it.
    only_after: Vec<Option<Vec<usize>>>,
    /// `[tags, tags]`, the tag before and the tag behind; empty where the bundle says nothing.
    transitions: Vec<f32>,
    /// Added to the score of the tag outside any span.
    outside_bias: f32,
    /// How far the transitions lie apart.
    spread: f32,
}

impl Decoder {
    pub(crate) fn new(labels: &Tags, outside_bias: f32) -> Self {
        let tags = labels.tags.clone();
        let only_after = tags.iter().map(|&tag| match tag {
            Tag::Inside(slot) => {
                let legal = |&at: &usize| [Tag::Begin(slot), Tag::Inside(slot)].contains(&tags[at]);
                Some((0..tags.len()).filter(legal).collect())
            }
            _ => None,
        });
        let only_after = only_after.collect();
        let transitions = labels.transitions.clone();
        let smallest = transitions.iter().copied().fold(f32::INFINITY, f32::min);
        let largest = transitions.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let spread = (largest - smallest).max(0.0);
        Self { tags, only_after, transitions, outside_bias, spread }
    }

    /// Finds the spans. `scores` holds, for each word, the raw scores of all tags.
    pub(crate) fn spans(&self, scores: &[&[f32]], temperature: f32) -> Vec<Span> {
        let path = self.best_path(scores);
        let mut spans: Vec<Span> = Vec::new();
        for (word, &tag) in path.iter().enumerate() {
            match (self.tags[tag], spans.last_mut()) {
                (Tag::Begin(kind), _) => spans.push(Span { kind, words: word..word + 1, confidence: 0.0 }),
                (Tag::Inside(_), Some(span)) => span.words.end = word + 1,
                _ => {}
            }
        }
        for span in &mut spans {
            let probabilities =
                span.words.clone().map(|word| log_softmax(scores[word], temperature)[path[word]]);
            span.confidence = (probabilities.sum::<f32>() / span.words.len() as f32).exp();
        }
        spans
    }

    /// Viterbi over the legal sequences: I-x follows only B-x or I-x. The normalisation of a word adds the same to each
    /// sequence, so raw scores decide.
    fn best_path(&self, scores: &[&[f32]]) -> Vec<usize> {
        let count = self.tags.len();
        let transition =
            |from: usize, to: usize| self.transitions.get(from * count + to).copied().unwrap_or(0.0);
        let bias = |tag: usize| if self.tags[tag] == Tag::Outside { self.outside_bias } else { 0.0 };
        let mut totals: Vec<f32> = vec![];
        let mut came_from: Vec<Vec<usize>> = vec![];
        for (word, scores) in scores.iter().enumerate() {
            // Whoever is further behind than transitions differ leads nowhere first.
            let largest = totals.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let hopeful: Vec<usize> =
                (0..totals.len()).filter(|&at| totals[at] >= largest - self.spread).collect();
            let mut next = Vec::with_capacity(count);
            let mut sources = Vec::with_capacity(count);
            for (to, (only_after, &score)) in self.only_after.iter().zip(*scores).enumerate() {
                let reach = |&from: &usize| (from, totals[from] + transition(from, to));
                let (source, total) = match (only_after, word) {
                    (None, 0) => (0, 0.0),
                    (Some(_), 0) => best([].into_iter()),
                    (None, _) => best(hopeful.iter().map(reach)),
                    (Some(legal), _) => best(legal.iter().map(reach)),
                };
                next.push(total + score + bias(to));
                sources.push(source);
            }
            totals = next;
            came_from.push(sources);
        }
        let mut tag = best(totals.into_iter().enumerate()).0;
        let mut path = vec![0; scores.len()];
        for (word, from) in came_from.iter().enumerate().rev() {
            path[word] = tag;
            tag = from[tag];
        }
        path
    }
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

    fn decoder(transitions: &[f32]) -> Decoder {
        Decoder::new(&Tags { tags: TAGS.to_vec(), transitions: transitions.to_vec() }, 0.0)
    }

    fn rows(scores: &[Vec<f32>]) -> Vec<&[f32]> {
        scores.iter().map(Vec::as_slice).collect()
    }

    fn words(spans: &[Span]) -> Vec<(usize, Range<usize>)> {
        spans.iter().map(|span| (span.kind, span.words.clone())).collect()
    }

    #[test]
    fn neighbouring_slots_stay_apart() {
        let one_hot = |tag: usize| (0..5).map(|t| if t == tag { 9.0 } else { 0.0 }).collect();
        let scores: Vec<Vec<f32>> = [1, 2, 1, 0, 3, 4, 4].map(one_hot).to_vec();
        assert_eq!(words(&decoder(&[]).spans(&rows(&scores), 1.0)), [(0, 0..2), (0, 2..3), (1, 4..7)]);
        assert!(decoder(&[]).spans(&rows(&scores), 1.0).iter().all(|span| span.confidence > 0.99));
    }

    #[test]
    fn a_slot_never_begins_inside() {
        // I-0 is best at the first word, but a legal sequence must begin with O or B.
        let scores = vec![vec![0.0, 1.0, 5.0, 0.0, 0.0], vec![0.0, 0.0, 5.0, 0.0, 0.0]];
        assert_eq!(words(&decoder(&[]).spans(&rows(&scores), 1.0)), [(0, 0..2)]);
        // The slot of the inside decides what the begin becomes when it weighs more.
        let scores = vec![vec![0.0, 2.0, 0.0, 1.5, 0.0], vec![0.0, 0.0, 0.0, 0.0, 5.0]];
        assert_eq!(words(&decoder(&[]).spans(&rows(&scores), 1.0)), [(1, 0..2)]);
    }

    #[test]
    fn confidence_is_the_geometric_mean_at_the_temperature() {
        let scores = vec![vec![0.0, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY]];
        let found = decoder(&[]).spans(&rows(&scores), 2.0);
        assert!((found[0].confidence - 1.0 / (1.0 + (-1.0_f32).exp())).abs() < 1e-6, "{found:?}");
        assert!(decoder(&[]).spans(&[], 1.0).is_empty());
    }

    #[test]
    fn the_bias_says_how_readily_a_span_is_found() {
        let scores = vec![vec![1.0, 0.5, 0.0, 0.0, 0.0], vec![0.0, 1.0, 0.0, 0.0, 0.0]];
        let found = |bias| {
            let tags = Tags { tags: TAGS.to_vec(), transitions: vec![] };
            words(&Decoder::new(&tags, bias).spans(&rows(&scores), 1.0))
        };
        assert_eq!(found(0.0), [(0, 1..2)]);
        assert_eq!(found(-1.0), [(0, 0..1), (0, 1..2)]);
        assert_eq!(found(2.0), []);
    }

    /// Every legal sequence, tried one by one.
    fn best_by_trying(transitions: &[f32], scores: &[Vec<f32>]) -> f32 {
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
                best = best.max(total(transitions, scores, &path));
            }
        }
        best
    }

    fn total(transitions: &[f32], scores: &[Vec<f32>], path: &[usize]) -> f32 {
        let follow = path.windows(2).map(|two| transitions[two[0] * TAGS.len() + two[1]]).sum::<f32>();
        path.iter().zip(scores).map(|(&tag, scores)| scores[tag]).sum::<f32>() + follow
    }

    proptest! {
        #[test]
        fn no_legal_sequence_is_better(
            scores in prop::collection::vec(prop::collection::vec(-5.0_f32..5.0, 5), 1..5),
            transitions in prop::collection::vec(-3.0_f32..0.0, 25),
        ) {
            let path = decoder(&transitions).best_path(&rows(&scores));
            let found = total(&transitions, &scores, &path);
            prop_assert!((found - best_by_trying(&transitions, &scores)).abs() < 1e-4);
            let path = decoder(&[]).best_path(&rows(&scores));
            let none = [0.0; 25];
            prop_assert!((total(&none, &scores, &path) - best_by_trying(&none, &scores)).abs() < 1e-4);
        }
    }
}
