//! From scores to calibrated probabilities, and from those of intents to an outcome.

use intentd_core::{Intent, Invalid, InvalidKind, Outcome, ParseOptions, Sentiment};

use crate::bundle::{IntentCalibration, Labels};

/// What the intent head says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) outcome: Outcome,
    pub(crate) intent: Option<Intent>,
    pub(crate) alternatives: Vec<Intent>,
}

impl Decision {
    /// An outcome that no intent head decided.
    pub(crate) fn without_intent(outcome: Outcome) -> Self {
        Self { outcome, intent: None, alternatives: Vec::new() }
    }
}

/// Checks a filter of intents against the labels; the first name that is no intent of the bundle is the mistake.
pub(crate) fn check_filter(labels: &Labels, filter: &[String]) -> Result<(), Invalid> {
    match filter.iter().find(|name| !labels.intents.contains(name)) {
        Some(name) => Err(Invalid {
            field: "options.intent_filter",
            kind: InvalidKind::BadValue,
            message: format!(
                "the bundle has no intent {name:?}; leave it out, or ask for the bundle's labels"
            ),
        }),
        None => Ok(()),
    }
}

/// Decides from the raw scores of the intent head.
///
/// With a filter, the probabilities are those among the intents of the filter and out of scope: the others are taken as
/// impossible, but a text can still be none of what the filter allows.
///
/// NOT_RECOGNIZED when out of scope is more probable than any intent, or the best one is below the bundle's lower
/// threshold or below `min_confidence`; UNCERTAIN below the upper threshold.
pub(crate) fn decide(
    labels: &Labels,
    calibration: &IntentCalibration,
    scores: &[f32],
    options: &ParseOptions,
) -> Decision {
    let allowed = |name: &String| options.intent_filter.is_empty() || options.intent_filter.contains(name);
    let kept: Vec<usize> = (0..scores.len())
        .filter(|&index| Some(index) == labels.out_of_scope || allowed(&labels.intent_outputs[index]))
        .collect();
    let kept_scores: Vec<f32> = kept.iter().map(|&index| scores[index]).collect();
    let probabilities = softmax(&kept_scores, calibration.temperature);
    let mut out_of_scope = 0.0;
    let mut ranked: Vec<(usize, f32)> = Vec::with_capacity(kept.len());
    for (&index, &confidence) in kept.iter().zip(&probabilities) {
        if Some(index) == labels.out_of_scope {
            out_of_scope = confidence;
        } else {
            ranked.push((index, confidence));
        }
    }
    // A stable sort: equal ones stay in the bundle's order, everywhere.
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));

    let best = ranked.first().map_or(0.0, |intent| intent.1);
    let limit = calibration.not_recognized.max(options.min_confidence);
    let top_k = usize::try_from(options.top_k).unwrap_or(usize::MAX);
    let mut ranked = ranked
        .into_iter()
        .map(|(index, confidence)| Intent { name: labels.intent_outputs[index].clone(), confidence });
    if out_of_scope > best || best < limit {
        let alternatives = ranked.take(top_k.max(1)).collect();
        return Decision { outcome: Outcome::NotRecognized, intent: None, alternatives };
    }
    let outcome = if best < calibration.recognized { Outcome::Uncertain } else { Outcome::Recognized };
    let intent = ranked.next();
    Decision { outcome, intent, alternatives: ranked.take(top_k).collect() }
}

/// The most probable mood; the first of equal ones.
pub(crate) fn mood(labels: &Labels, temperature: f32, scores: &[f32]) -> Option<Sentiment> {
    let scored = labels.sentiment.iter().zip(softmax(scores, temperature));
    let best = scored.reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(label, score)| Sentiment { label: label.clone(), score })
}

/// Probabilities of scores at a temperature.
pub(crate) fn softmax(scores: &[f32], temperature: f32) -> Vec<f32> {
    log_softmax(scores, temperature).into_iter().map(f32::exp).collect()
}

/// Their logarithms.
pub(crate) fn log_softmax(scores: &[f32], temperature: f32) -> Vec<f32> {
    let scaled: Vec<f32> = scores.iter().map(|score| score / temperature).collect();
    let largest = scaled.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total = scaled.iter().map(|score| (score - largest).exp()).sum::<f32>().ln() + largest;
    scaled.into_iter().map(|score| score - total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALIBRATION: IntentCalibration =
        IntentCalibration { temperature: 1.0, recognized: 0.6, not_recognized: 0.3 };

    fn labels() -> Labels {
        let all: Vec<String> = ["on", "off", "dim", "oos"].map(str::to_owned).to_vec();
        Labels { intents: all[..3].to_vec(), intent_outputs: all, out_of_scope: Some(3), ..Labels::default() }
    }

    /// Scores that give these probabilities at temperature 1.
    fn scores(probabilities: [f32; 4]) -> Vec<f32> {
        probabilities.map(f32::ln).to_vec()
    }

    #[track_caller]
    fn check(
        probabilities: [f32; 4],
        options: &ParseOptions,
        outcome: Outcome,
        intent: &str,
        others: &[&str],
    ) {
        let decision = decide(&labels(), &CALIBRATION, &scores(probabilities), options);
        assert_eq!(decision.outcome, outcome);
        assert_eq!(decision.intent.map_or(String::new(), |intent| intent.name), intent);
        let names: Vec<&str> = decision.alternatives.iter().map(|intent| intent.name.as_str()).collect();
        assert_eq!(names, others);
    }

    #[test]
    fn thresholds_divide_the_outcomes() {
        let options = ParseOptions::default();
        check([0.7, 0.1, 0.1, 0.1], &options, Outcome::Recognized, "on", &[]);
        check([0.1, 0.5, 0.2, 0.2], &options, Outcome::Uncertain, "off", &[]);
        check([0.25, 0.25, 0.29, 0.21], &options, Outcome::NotRecognized, "", &["dim"]);
        check([0.4, 0.05, 0.05, 0.5], &options, Outcome::NotRecognized, "", &["on"]);
    }

    #[test]
    fn top_k_lists_the_next_best() {
        let options = ParseOptions { top_k: 2, ..ParseOptions::default() };
        check([0.7, 0.05, 0.15, 0.1], &options, Outcome::Recognized, "on", &["dim", "off"]);
        check([0.1, 0.05, 0.15, 0.7], &options, Outcome::NotRecognized, "", &["dim", "on"]);
    }

    #[test]
    fn the_caller_may_ask_for_more_confidence() {
        let options = ParseOptions { min_confidence: 0.9, ..ParseOptions::default() };
        check([0.7, 0.1, 0.1, 0.1], &options, Outcome::NotRecognized, "", &["on"]);
    }

    #[test]
    fn a_filter_leaves_its_intents_and_out_of_scope() {
        let options = ParseOptions { intent_filter: vec!["off".to_owned()], ..ParseOptions::default() };
        check([0.7, 0.2, 0.05, 0.05], &options, Outcome::Recognized, "off", &[]);
        check([0.7, 0.1, 0.05, 0.15], &options, Outcome::NotRecognized, "", &["off"]);
        let decision = decide(&labels(), &CALIBRATION, &scores([0.7, 0.2, 0.05, 0.05]), &options);
        assert!((decision.intent.unwrap().confidence - 0.8).abs() < 1e-6);
    }

    #[test]
    fn unknown_names_in_a_filter_are_named() {
        for name in ["fly", "oos"] {
            let error = check_filter(&labels(), &["on".to_owned(), name.to_owned()]).unwrap_err();
            assert_eq!(error.field, "options.intent_filter");
            assert!(error.message.contains(name), "{error}");
        }
        assert_eq!(check_filter(&labels(), &["on".to_owned()]), Ok(()));
    }

    #[test]
    fn the_most_probable_mood_is_the_answer() {
        let sentiment = ["negative", "neutral", "positive"].map(str::to_owned).to_vec();
        let labels = Labels { sentiment, ..Labels::default() };
        let found = mood(&labels, 2.0, &[0.0, 2.0, 2.0]).unwrap();
        assert_eq!(found.label, "neutral");
        assert!((found.score - 1.0 / (2.0 + (-1.0_f32).exp())).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn a_temperature_flattens() {
        let sharp = softmax(&[2.0, 0.0], 1.0);
        let flat = softmax(&[2.0, 0.0], 4.0);
        assert!(sharp[0] > flat[0] && flat[0] > 0.5);
        assert!((flat.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        // Large scores do not overflow.
        assert_eq!(softmax(&[1000.0, 0.0], 1.0), [1.0, 0.0]);
    }
}
