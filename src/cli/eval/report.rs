//! The figures of one evaluation, as JSON for machines and as tables for people.

use std::collections::BTreeMap;
use std::io::Write as _;

use intentd_core::ModelRef;
use serde::Serialize;

use crate::cli::latency::Latency;
use crate::cli::{Failure, answer, screen};

/// Confusions that are shown.
const WORST: usize = 10;

/// What was found about one file.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) examples: usize,
    pub(super) figures: Figures,
    /// Occurrences of gold labels that the bundle lacks; each counts as an error.
    pub(super) unknown: BTreeMap<String, usize>,
    pub(super) confusions: Vec<Confusion>,
}

/// Fractions from 0 to 1; none where a figure does not apply to the task or the data.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    pub(super) intent_accuracy: Option<f64>,
    pub(super) slot_f1: Option<f64>,
    pub(super) frame_accuracy: Option<f64>,
    pub(super) in_scope_accuracy: Option<f64>,
    pub(super) oos_recall: Option<f64>,
    pub(super) auroc: Option<f64>,
    pub(super) oos_recall_at_threshold: Option<f64>,
    pub(super) false_rejection_rate: Option<f64>,
    pub(super) accuracy: Option<f64>,
    pub(super) f1: Option<f64>,
    pub(super) exact_match: Option<f64>,
    pub(super) ece: Option<f64>,
    pub(super) brier: Option<f64>,
}

/// Everything that is printed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    task: &'static str,
    examples: usize,
    #[serde(flatten)]
    figures: Figures,
    unknown_labels: usize,
    latency_us: Quantiles,
    #[serde(skip)]
    unknown: BTreeMap<String, usize>,
    #[serde(skip)]
    confusions: Vec<Confusion>,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    p50: Option<f64>,
    p99: Option<f64>,
}

/// A gold label and another that was answered.
#[derive(Debug)]
pub(super) struct Confusion {
    lines: usize,
    gold: String,
    answered: String,
    example: String,
}

impl Confusion {
    /// The most frequent pairs among wrong lines, each with its first text.
    pub(super) fn worst<'a>(wrong: impl Iterator<Item = (&'a str, &'a str, &'a str)>) -> Vec<Self> {
        let mut pairs: BTreeMap<(&str, &str), (usize, &str)> = BTreeMap::new();
        for (gold, answered, text) in wrong {
            pairs.entry((gold, answered)).or_insert((0, text)).0 += 1;
        }
        let confusion = |((gold, answered), (lines, example)): ((&str, &str), (usize, &str))| Self {
            lines,
            gold: gold.to_owned(),
            answered: answered.to_owned(),
            example: example.to_owned(),
        };
        let mut worst: Vec<Self> = pairs.into_iter().map(confusion).collect();
        worst.sort_by_key(|confusion| std::cmp::Reverse(confusion.lines));
        worst.truncate(WORST);
        worst
    }
}

impl Report {
    pub(super) fn new(task: &'static str, findings: Findings, latency: &Latency) -> Self {
        let Findings { examples, figures, unknown, confusions } = findings;
        Self {
            task,
            examples,
            figures,
            unknown_labels: unknown.values().sum(),
            latency_us: Quantiles { p50: latency.quantile_us(0.5), p99: latency.quantile_us(0.99) },
            unknown,
            confusions,
        }
    }

    pub(super) fn print_json(&self) -> Result<(), Failure> {
        let json = serde_json::to_string(self).map_err(Failure::software)?;
        writeln!(std::io::stdout().lock(), "{json}")?;
        Ok(())
    }

    pub(super) fn print_tables(&self, model: &ModelRef) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
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
        if !self.confusions.is_empty() {
            let mut table = screen::table(&["lines", "gold label", "answered", "for example"]);
            for Confusion { lines, gold, answered, example } in &self.confusions {
                table.add_row([screen::number(lines), gold.into(), answered.into(), example.into()]);
            }
            writeln!(out, "Worst confusions:\n{table}")?;
        }
        Ok(())
    }

    fn shown(&self) -> Vec<(&'static str, String, &'static str)> {
        let fractions = [
            ("intent accuracy", self.figures.intent_accuracy, "best in-scope intent is the gold one"),
            ("slot F1", self.figures.slot_f1, "name, start and end of each slot, micro-averaged"),
            ("frame accuracy", self.figures.frame_accuracy, "intent and all slots right"),
            ("in-scope accuracy", self.figures.in_scope_accuracy, "as intent accuracy, rejection ignored"),
            (
                "out-of-scope recall",
                self.figures.oos_recall,
                "at the threshold that rejects 5 % of the in-scope lines here",
            ),
            ("AUROC", self.figures.auroc, "out-of-scope against in-scope lines"),
            (
                "recall at threshold",
                self.figures.oos_recall_at_threshold,
                "out-of-scope lines that the bundle rejects",
            ),
            ("accuracy", self.figures.accuracy, "the right label, or rightly answered or not"),
            ("F1", self.figures.f1, "macro over labels, micro over entities, mean over questions"),
            ("exact match", self.figures.exact_match, "the answer's words are those of a gold answer"),
            ("false rejections", self.figures.false_rejection_rate, "in-scope lines that the bundle rejects"),
        ];
        let shown = fractions
            .into_iter()
            .filter_map(|(name, value, what)| Some((name, answer::percent(value?), what)));
        let errors = [
            ("ECE", self.figures.ece, "gap between confidence and accuracy, 15 bins"),
            ("Brier", self.figures.brier, "mean squared error of the best label's confidence"),
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
