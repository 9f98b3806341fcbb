//! Lines `{"text", "label"}`: moods by the sentiment head, or any labels by embeddings. An embedding names none itself;
//! what is measured is whether a text's nearest neighbour among the other lines has the same label.

use std::collections::{BTreeMap, BTreeSet};

use intentd_core::Task as Head;
use serde::Deserialize;

use super::gold::{self, Gold};
use super::metrics::{expected_calibration_error, top_brier};
use super::report::{Confusion, Figures, Findings};
use super::{Examinee, Failure};
use crate::inference::Parsed;

#[derive(Deserialize)]
struct Labelled {
    text: String,
    label: String,
}

fn parse(line: &str) -> Result<Labelled, String> {
    let Labelled { text, label } = gold::fields(line)?;
    Ok(Labelled { text: gold::text(text)?, label })
}

pub(super) fn evaluate_sentiment(examinee: &mut Examinee<'_>) -> Result<Findings, Failure> {
    let gold = gold::read(examinee.data, parse)?;
    let known = &examinee.engine.labels().sentiment;
    let parsed = examinee.parse_all(&gold, &[Head::Sentiment], |line| &line.text)?;
    let moods: Vec<(&str, f64)> = parsed
        .iter()
        .filter_map(|parsed| parsed.understanding.sentiment.as_ref())
        .map(|mood| (mood.label.as_str(), f64::from(mood.score)))
        .collect();
    let answers: Vec<&str> = moods.iter().map(|(label, _)| *label).collect();
    let mut findings = findings(&gold, &answers);
    let scored = || gold.iter().zip(&moods).map(|(gold, (label, score))| (*score, gold.says.label == *label));
    findings.figures.ece = expected_calibration_error(scored());
    findings.figures.brier = top_brier(scored());
    for gold in gold.iter().filter(|gold| !known.contains(&gold.says.label)) {
        *findings.unknown.entry(gold.says.label.clone()).or_default() += 1;
    }
    Ok(findings)
}

pub(super) fn evaluate_embedding(examinee: &mut Examinee<'_>) -> Result<Findings, Failure> {
    let gold = gold::read(examinee.data, parse)?;
    if gold.len() < 2 {
        let data = examinee.data.display();
        return Err(Failure::data(format!("{data}: one line has no neighbour; give more")));
    }
    let parsed = examinee.parse_all(&gold, &[Head::Embedding], |line| &line.text)?;
    let answers: Vec<&str> =
        nearest(&parsed).into_iter().map(|neighbour| gold[neighbour].says.label.as_str()).collect();
    Ok(findings(&gold, &answers))
}

/// For each text the other one with the largest scalar product; the first of equal ones.
fn nearest(parsed: &[Parsed]) -> Vec<usize> {
    let vectors: Vec<&[f32]> =
        parsed.iter().map(|parsed| parsed.understanding.embedding.as_slice()).collect();
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let others = |at: usize| (0..vectors.len()).filter(move |&other| other != at);
    let closest = |at: usize| {
        let products = others(at).map(|other| (other, product(vectors[at], vectors[other])));
        products.reduce(|best, next| if next.1 > best.1 { next } else { best }).map_or(at, |best| best.0)
    };
    (0..vectors.len()).map(closest).collect()
}

fn findings(gold: &[Gold<Labelled>], answers: &[&str]) -> Findings {
    let pairs: Vec<(&str, &str)> =
        gold.iter().zip(answers).map(|(gold, answer)| (gold.says.label.as_str(), *answer)).collect();
    let right = pairs.iter().filter(|(expected, answer)| expected == answer).count();
    let wrong = gold.iter().zip(answers).filter(|(gold, answer)| gold.says.label != **answer);
    let wrong = wrong.map(|(gold, answer)| (gold.says.label.as_str(), *answer, gold.says.text.as_str()));
    Findings {
        examples: gold.len(),
        figures: Figures {
            accuracy: (!pairs.is_empty()).then(|| right as f64 / pairs.len() as f64),
            f1: macro_f1(&pairs),
            ..Figures::default()
        },
        unknown: BTreeMap::new(),
        confusions: Confusion::worst(wrong),
    }
}

/// The mean over the gold labels of the F1 of each.
fn macro_f1(pairs: &[(&str, &str)]) -> Option<f64> {
    let labels: BTreeSet<&str> = pairs.iter().map(|(expected, _)| *expected).collect();
    let of_label = |label: &str| {
        let gold = pairs.iter().filter(|(expected, _)| *expected == label).count();
        let found = pairs.iter().filter(|(_, answer)| *answer == label).count();
        let both = pairs.iter().filter(|pair| **pair == (label, label)).count();
        2.0 * both as f64 / (gold + found) as f64
    };
    let sum: f64 = labels.iter().map(|label| of_label(label)).sum();
    (!labels.is_empty()).then(|| sum / labels.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macro_f1_counts_rare_labels_as_much_as_frequent_ones() {
        let pairs = [("a", "a"), ("a", "a"), ("a", "b"), ("b", "b")];
        // a: 2 of 3 and 2; b: 1 of 1 and 2.
        let expected = (2.0 * 2.0 / 5.0 + 2.0 / 3.0) / 2.0;
        assert!((macro_f1(&pairs).unwrap() - expected).abs() < 1e-12);
        assert_eq!(macro_f1(&[]), None);
        assert_eq!(macro_f1(&[("a", "c")]), Some(0.0));
    }
}
