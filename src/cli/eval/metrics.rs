//! The figures of intents and slots: pure functions from answered lines to fractions. A figure whose denominator is
//! zero is none.

use std::collections::BTreeSet;

use super::gold::Span;

/// Bins of the expected calibration error.
const CALIBRATION_BINS: usize = 15;

/// One in this many in-scope lines is rejected at the threshold of `oos_recall`: 5 %.
const REJECTED_OF_IN_SCOPE: usize = 20;

/// A gold line beside its answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// None: out of scope.
    pub(super) gold_intent: Option<String>,
    /// None: the line does not say.
    pub(super) gold_slots: Option<BTreeSet<Span>>,
    /// The best in-scope intent, whatever the outcome.
    pub(super) intent: String,
    /// Its calibrated probability.
    pub(super) confidence: f64,
    pub(super) slots: BTreeSet<Span>,
    /// The outcome was NOT_RECOGNIZED.
    pub(super) rejected: bool,
}

impl Line {
    pub(super) fn in_scope(&self) -> bool {
        self.gold_intent.is_some()
    }

    /// Whether the best in-scope intent is the gold one; never for an out-of-scope line.
    pub(super) fn right(&self) -> bool {
        self.gold_intent.as_deref() == Some(&self.intent)
    }

    /// The softmax includes "out of scope", so what the best intent lacks to 1 speaks for that.
    fn oos_score(&self) -> f64 {
        1.0 - self.confidence
    }
}

/// In-scope lines whose best intent is the gold one.
pub(super) fn intent_accuracy(lines: &[Line]) -> Option<f64> {
    share(lines.iter().filter(|line| line.in_scope()), Line::right)
}

/// In-scope lines whose intent and whole set of slots are the gold ones.
pub(super) fn frame_accuracy(lines: &[Line]) -> Option<f64> {
    let framed = lines.iter().filter(|line| line.in_scope() && line.gold_slots.is_some());
    share(framed, |line| line.right() && line.gold_slots.as_ref() == Some(&line.slots))
}

/// Micro F1 over the slots of in-scope lines: the same name, start and end.
pub(super) fn slot_f1(lines: &[Line]) -> Option<f64> {
    let lines = lines.iter().filter(|line| line.in_scope());
    micro_f1(lines.filter_map(|line| Some((line.gold_slots.as_ref()?, &line.slots))))
}

/// F1 over all spans of all lines, each line's gold ones beside those that were found.
pub(super) fn micro_f1<'a>(
    lines: impl Iterator<Item = (&'a BTreeSet<Span>, &'a BTreeSet<Span>)>,
) -> Option<f64> {
    let (mut all, mut both) = (0, 0);
    for (gold, found) in lines {
        all += gold.len() + found.len();
        both += gold.intersection(found).count();
    }
    (all > 0).then(|| 2.0 * both as f64 / all as f64)
}

/// Lines of one kind that were answered NOT_RECOGNIZED: recall of out-of-scope lines, or false rejections.
pub(super) fn rejected(lines: &[Line], in_scope: bool) -> Option<f64> {
    share(lines.iter().filter(|line| line.in_scope() == in_scope), |line| line.rejected)
}

/// Out-of-scope lines that score above the threshold which rejects 5 % of the in-scope lines (fewer where scores tie).
pub(super) fn oos_recall(lines: &[Line]) -> Option<f64> {
    let (in_scope, out_of_scope): (Vec<&Line>, Vec<&Line>) = lines.iter().partition(|line| line.in_scope());
    let mut scores: Vec<f64> = in_scope.into_iter().map(Line::oos_score).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    let threshold = *scores.get(scores.len() / REJECTED_OF_IN_SCOPE)?;
    share(out_of_scope.into_iter(), |line| line.oos_score() > threshold)
}

/// Probability that an out-of-scope line scores above an in-scope one; a tie counts half.
pub(super) fn auroc(lines: &[Line]) -> Option<f64> {
    let mut scores: Vec<(f64, bool)> = lines.iter().map(|line| (line.oos_score(), line.in_scope())).collect();
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut wins) = (0.0, 0.0);
    for tied in scores.chunk_by(|a, b| a.0 == b.0) {
        let in_scope = tied.iter().filter(|(_, in_scope)| *in_scope).count() as f64;
        wins += (tied.len() as f64 - in_scope) * (below + in_scope / 2.0);
        below += in_scope;
    }
    let pairs = below * (scores.len() as f64 - below);
    (pairs > 0.0).then(|| wins / pairs)
}

/// Calibration error of the best intent over in-scope lines.
pub(super) fn calibration_error(lines: &[Line]) -> Option<f64> {
    expected_calibration_error(guesses(lines))
}

/// Brier score of the best intent over in-scope lines.
pub(super) fn brier(lines: &[Line]) -> Option<f64> {
    top_brier(guesses(lines))
}

fn guesses(lines: &[Line]) -> impl Iterator<Item = (f64, bool)> {
    lines.iter().filter(|line| line.in_scope()).map(|line| (line.confidence, line.right()))
}

/// Expected calibration error of answers by confidence and whether they are right: 15 bins of equal width, each open
/// below and closed above; the gap between mean confidence and accuracy, weighted by the answers of the bin.
pub(super) fn expected_calibration_error(answers: impl Iterator<Item = (f64, bool)>) -> Option<f64> {
    let mut gaps = [0.0; CALIBRATION_BINS];
    let mut count = 0;
    for (confidence, right) in answers {
        let bin = (confidence * CALIBRATION_BINS as f64).ceil() as usize;
        gaps[bin.clamp(1, CALIBRATION_BINS) - 1] += confidence - f64::from(u8::from(right));
        count += 1;
    }
    let gap: f64 = gaps.iter().map(|gap| gap.abs()).sum();
    (count > 0).then(|| gap / f64::from(count))
}

/// Top-label Brier score: the mean of (confidence - (1 if right, else 0))^2.
pub(super) fn top_brier(answers: impl Iterator<Item = (f64, bool)>) -> Option<f64> {
    let squares = answers.map(|(confidence, right)| (confidence - f64::from(u8::from(right))).powi(2));
    let (sum, count) = squares.fold((0.0, 0_u32), |(sum, count), square| (sum + square, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

fn share<'a>(lines: impl Iterator<Item = &'a Line>, holds: impl Fn(&Line) -> bool) -> Option<f64> {
    let (mut all, mut those) = (0_u32, 0_u32);
    for line in lines {
        all += 1;
        those += u32::from(holds(line));
    }
    (all > 0).then(|| f64::from(those) / f64::from(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(gold: &str, intent: &str, confidence: f64) -> Line {
        let gold_intent = (gold != "oos").then(|| gold.to_owned());
        Line { gold_intent, intent: intent.to_owned(), confidence, ..Line::default() }
    }

    fn spans(spans: &[(&str, u32, u32)]) -> BTreeSet<Span> {
        spans.iter().map(|&(name, start, end)| Span { name: name.to_owned(), start, end }).collect()
    }

    fn with_slots(mut line: Line, gold: &[(&str, u32, u32)], found: &[(&str, u32, u32)]) -> Line {
        line.gold_slots = Some(spans(gold));
        line.slots = spans(found);
        line
    }

    fn near(value: Option<f64>, expected: f64) {
        let value = value.unwrap();
        assert!((value - expected).abs() < 1e-12, "{value} is not {expected}");
    }

    #[test]
    fn nothing_to_count_is_no_figure() {
        for figure in [intent_accuracy, frame_accuracy, slot_f1, oos_recall, auroc, calibration_error, brier]
        {
            assert_eq!(figure(&[]), None);
        }
        assert_eq!(rejected(&[line("a", "a", 1.0)], false), None);
        assert_eq!(slot_f1(&[with_slots(line("a", "a", 1.0), &[], &[])]), None, "no slot anywhere");
    }

    #[test]
    fn accuracy_ignores_the_outcome_and_out_of_scope_lines() {
        let mut rejected = line("a", "a", 0.1);
        rejected.rejected = true;
        let lines = [rejected, line("a", "b", 0.9), line("b", "b", 0.9), line("oos", "a", 0.9)];
        near(intent_accuracy(&lines), 2.0 / 3.0);
    }

    #[test]
    fn slots_count_only_with_the_exact_name_and_span() {
        let gold = [("room", 0, 4), ("time", 8, 12)];
        let lines = [
            with_slots(line("a", "a", 1.0), &gold, &gold),
            with_slots(line("a", "a", 1.0), &gold, &[("room", 0, 4), ("date", 8, 12), ("room", 0, 3)]),
            with_slots(line("oos", "a", 1.0), &[], &[("room", 0, 4)]),
            line("a", "a", 1.0),
        ];
        // gold 4, found 5, both 3; the out-of-scope line and the one without slots don't count.
        near(slot_f1(&lines), 2.0 * 3.0 / 9.0);
        near(frame_accuracy(&lines), 0.5);
    }

    #[test]
    fn a_frame_needs_its_intent_too() {
        let lines = [with_slots(line("a", "b", 1.0), &[], &[]), with_slots(line("a", "a", 1.0), &[], &[])];
        near(frame_accuracy(&lines), 0.5);
    }

    #[test]
    fn auroc_counts_ties_half() {
        // In scope score 0.1, 0.4; out of scope 0.4, 0.8: (1 + 0.5 + 1 + 1) / 4.
        let lines = [line("a", "a", 0.9), line("a", "a", 0.6), line("oos", "a", 0.6), line("oos", "a", 0.2)];
        near(auroc(&lines), 3.5 / 4.0);
        near(auroc(&[line("a", "a", 0.1), line("oos", "a", 0.9)]), 0.0);
        assert_eq!(auroc(&lines[..2]), None, "needs both kinds");
    }

    #[test]
    fn oos_recall_rejects_one_in_twenty() {
        // Confidences 0.01 to 0.40: two of forty may be rejected, so the threshold stands at 0.03.
        let mut lines: Vec<Line> = (1..=40).map(|i| line("a", "a", f64::from(i) / 100.0)).collect();
        lines.extend([line("oos", "a", 0.025), line("oos", "a", 0.03), line("oos", "a", 0.5)]);
        near(oos_recall(&lines), 1.0 / 3.0);
        // Fewer than twenty: none may be rejected.
        near(oos_recall(&[line("a", "a", 0.5), line("oos", "a", 0.4), line("oos", "a", 0.5)]), 0.5);
    }

    #[test]
    fn rejections_are_told_apart_by_kind() {
        let rejected_line = |gold: &str| Line { rejected: true, ..line(gold, "a", 0.2) };
        let lines = [rejected_line("oos"), rejected_line("a"), line("a", "a", 0.9), line("a", "a", 0.9)];
        near(rejected(&lines, false), 1.0);
        near(rejected(&lines, true), 1.0 / 3.0);
    }

    #[test]
    fn calibration_is_the_gap_of_each_bin() {
        // Two in the last bin at 0.95, one right: gap 2 * 0.95 - 1 = 0.9. One in (6/15, 7/15], right: 0.45 - 1 = -0.55.
        let lines =
            [line("a", "a", 0.95), line("a", "b", 0.95), line("a", "a", 0.45), line("oos", "a", 0.99)];
        near(calibration_error(&lines), (0.9 + 0.55) / 3.0);
        near(calibration_error(&[line("a", "a", 1.0), line("a", "b", 0.0)]), 0.0);
        // 0.2 is the upper edge of the third bin and 0.21 lies in the fourth: their gaps don't cancel.
        near(calibration_error(&[line("a", "b", 0.2), line("a", "a", 0.21)]), (0.2 + 0.79) / 2.0);
    }

    #[test]
    fn brier_is_the_mean_squared_error_of_the_best_intent() {
        let lines = [line("a", "a", 0.8), line("a", "b", 0.6), line("oos", "a", 0.9)];
        near(brier(&lines), (0.04 + 0.36) / 2.0);
    }
}
