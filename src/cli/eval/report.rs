//! The figures of one evaluation, as JSON for machines and as tables for people.

use std::collections::BTreeMap;
use std::io::Write as _;

use intentd_engine::{Engine, Labels};
use serde::Serialize;

use super::Task;
use super::gold::Gold;
use super::metrics::{self, Line};
use crate::cli::latency::Latency;
use crate::cli::{Failure, answer, screen};

/// Confusions that are shown.
const WORST: usize = 10;

/// Fractions from 0 to 1; none where a figure does not apply to the task or the data.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    task: &'static str,
    examples: usize,
    intent_accuracy: Option<f64>,
    slot_f1: Option<f64>,
    frame_accuracy: Option<f64>,
    in_scope_accuracy: Option<f64>,
    oos_recall: Option<f64>,
    auroc: Option<f64>,
    oos_recall_at_threshold: Option<f64>,
    false_rejection_rate: Option<f64>,
    /// Of the tasks that this version does not have.
    accuracy: Option<f64>,
    f1: Option<f64>,
    exact_match: Option<f64>,
    ece: Option<f64>,
    brier: Option<f64>,
    /// Gold intents and slots whose label the bundle lacks; each counts as an error.
    unknown_labels: usize,
    latency_us: Quantiles,
    #[serde(skip)]
    unknown: BTreeMap<String, usize>,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    p50: Option<f64>,
    p99: Option<f64>,
}

impl Report {
    pub(super) fn new(task: Task, lines: &[Line], labels: &Labels, latency: &Latency) -> Self {
        let intent =
            |figure: fn(&[Line]) -> Option<f64>| (task == Task::Intent).then(|| figure(lines)).flatten();
        let oos = |figure: fn(&[Line]) -> Option<f64>| (task == Task::Oos).then(|| figure(lines)).flatten();
        let unknown = unknown_labels(lines, labels);
        Self {
            task: if task == Task::Oos { "oos" } else { "intent" },
            examples: lines.len(),
            intent_accuracy: intent(metrics::intent_accuracy),
            slot_f1: intent(metrics::slot_f1),
            frame_accuracy: intent(metrics::frame_accuracy),
            in_scope_accuracy: oos(metrics::intent_accuracy),
            oos_recall: oos(metrics::oos_recall),
            auroc: oos(metrics::auroc),
            oos_recall_at_threshold: oos(|lines| metrics::rejected(lines, false)),
            false_rejection_rate: oos(|lines| metrics::rejected(lines, true)),
            accuracy: None,
            f1: None,
            exact_match: None,
            ece: metrics::calibration_error(lines),
            brier: metrics::brier(lines),
            unknown_labels: unknown.values().sum(),
            latency_us: Quantiles { p50: latency.quantile_us(0.5), p99: latency.quantile_us(0.99) },
            unknown,
        }
    }

    pub(super) fn print_json(&self) -> Result<(), Failure> {
        let json = serde_json::to_string(self).map_err(Failure::software)?;
        writeln!(std::io::stdout().lock(), "{json}")?;
        Ok(())
    }

    pub(super) fn print_tables(&self, engine: &Engine, gold: &[Gold], lines: &[Line]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        let model = engine.model();
        writeln!(out, "{} {} on {} lines, task {}", model.name, model.version, self.examples, self.task)?;
        let mut table = screen::table(&["figure", "value", "what it is"]);
        for (name, value, what) in self.shown() {
            table.add_row([name.into(), screen::number(value), what.into()]);
        }
        writeln!(out, "{table}")?;
        if !self.unknown.is_empty() {
            let names: Vec<String> =
                self.unknown.iter().map(|(name, lines)| format!("{name} ({lines})")).collect();
            writeln!(out, "Labels that the bundle lacks: {}", names.join(", "))?;
        }
        let worst = confusions(gold, lines);
        if !worst.is_empty() {
            let mut table = screen::table(&["lines", "gold intent", "answered", "for example"]);
            for Confusion { count, gold, answered, example } in worst {
                table.add_row([screen::number(count), gold.into(), answered.into(), example.into()]);
            }
            writeln!(out, "Worst confusions:\n{table}")?;
        }
        Ok(())
    }

    fn shown(&self) -> Vec<(&'static str, String, &'static str)> {
        let fractions = [
            ("intent accuracy", self.intent_accuracy, "best in-scope intent is the gold one"),
            ("slot F1", self.slot_f1, "name, start and end of each slot, micro-averaged"),
            ("frame accuracy", self.frame_accuracy, "intent and all slots right"),
            ("in-scope accuracy", self.in_scope_accuracy, "as intent accuracy, rejection ignored"),
            (
                "out-of-scope recall",
                self.oos_recall,
                "at the threshold that rejects 5 % of the in-scope lines here",
            ),
            ("AUROC", self.auroc, "out-of-scope against in-scope lines"),
            (
                "recall at threshold",
                self.oos_recall_at_threshold,
                "out-of-scope lines that the bundle rejects",
            ),
            ("false rejections", self.false_rejection_rate, "in-scope lines that the bundle rejects"),
        ];
        let shown = fractions
            .into_iter()
            .filter_map(|(name, value, what)| Some((name, answer::percent(value?), what)));
        let errors = [
            ("ECE", self.ece, "gap between confidence and accuracy, 15 bins"),
            ("Brier", self.brier, "mean squared error of the best intent's confidence"),
        ];
        let errors =
            errors.into_iter().filter_map(|(name, value, what)| Some((name, format!("{:.4}", value?), what)));
        let times = [
            ("latency p50", self.latency_us.p50, "tokenise to decode, one thread, a line at a time"),
            ("latency p99", self.latency_us.p99, ""),
        ];
        let times =
            times.into_iter().filter_map(|(name, value, what)| Some((name, screen::micros(value?), what)));
        shown.chain(errors).chain(times).collect()
    }
}

/// Occurrences of each label that the bundle lacks.
fn unknown_labels(lines: &[Line], labels: &Labels) -> BTreeMap<String, usize> {
    let mut unknown = BTreeMap::new();
    for line in lines {
        let intent = line.gold_intent.iter().filter(|intent| !labels.intents.contains(intent));
        let slots = line.gold_slots.iter().flatten().map(|slot| &slot.name);
        for name in intent.chain(slots.filter(|name| !labels.slots.contains(name))) {
            *unknown.entry(name.clone()).or_default() += 1;
        }
    }
    unknown
}

struct Confusion<'a> {
    count: usize,
    gold: &'a str,
    answered: &'a str,
    example: &'a str,
}

/// The most frequent pairs of gold intent and another that was answered, each with its first line.
fn confusions<'a>(gold: &'a [Gold], lines: &'a [Line]) -> Vec<Confusion<'a>> {
    let mut pairs: BTreeMap<(&str, &str), (usize, &str)> = BTreeMap::new();
    for (gold, line) in gold.iter().zip(lines) {
        // An out-of-scope line is right when it was rejected.
        let wrong = if line.in_scope() { !line.right() } else { !line.rejected };
        if wrong {
            let expected = line.gold_intent.as_deref().unwrap_or("(out of scope)");
            pairs.entry((expected, &line.intent)).or_insert((0, &gold.text)).0 += 1;
        }
    }
    let mut worst: Vec<Confusion<'a>> = pairs
        .into_iter()
        .map(|((gold, answered), (count, example))| Confusion { count, gold, answered, example })
        .collect();
    worst.sort_by_key(|confusion| std::cmp::Reverse(confusion.count));
    worst.truncate(WORST);
    worst
}
