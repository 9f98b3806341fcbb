//! `intentd eval`: how good a bundle is on labelled lines, and how fast on one thread.

mod gold;
mod metrics;
mod report;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use intentd_core::{ModelRef, Outcome, ParseOptions, Understanding, Utterance};
use intentd_engine::{Engine, Worker};

use self::gold::Gold;
use self::metrics::{Line, Span};
use self::report::Report;
use super::latency::Latency;
use super::parse::understand;
use super::{Failure, bundle, screen};
use crate::convert;
use crate::inference::Parsed;

/// Lines before the measurement, so that caches and clock are what they are in service. They are repeats of the
/// first lines: every line is scored.
const WARM_UP_LINES: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Gold lines: {"text", "intent", "slots": [{"name", "start", "end"}]}, intent null or "oos" where out of scope.
    #[arg(long, value_name = "FILE.jsonl")]
    data: PathBuf,
    /// What to measure; decides which fields are read.
    #[arg(long, value_enum, default_value_t = Task::Intent)]
    task: Task,
    /// Folder of the bundle (else the configured one).
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Write one ParseResponse a line, in the order of the data.
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What a bundle can be measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Task {
    /// Intents and slots.
    Intent,
    /// Telling in-scope from out-of-scope lines; the file has both.
    Oos,
    /// Polarity.
    Sentiment,
    /// Named entities.
    Entities,
    /// Extractive answers.
    Qa,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let engine = bundle::open(arguments.bundle.as_deref())?;
    check_task(&engine, arguments.task)?;
    let gold = gold::read(&arguments.data, arguments.task)?;
    let mut predictions = arguments.predictions.as_deref().map(create).transpose()?;
    let mut examinee = Examinee {
        worker: engine.worker().map_err(Failure::software)?,
        model: engine.model().clone(),
        tasks: tasks(&engine, arguments.task),
        data: &arguments.data,
    };
    for gold in gold.iter().cycle().take(WARM_UP_LINES) {
        examinee.answer(gold)?;
    }
    let progress = screen::progress("evaluating", gold.len());
    let mut latency = Latency::new();
    let mut lines = Vec::with_capacity(gold.len());
    for gold in &gold {
        let parsed = examinee.answer(gold)?;
        latency.record(parsed.timing.total);
        if let Some((file, path)) = &mut predictions {
            let written = writeln!(file, "{}", convert::to_json(&convert::answer(&parsed)));
            written.map_err(|error| not_written(path, &error))?;
        }
        lines.push(line(gold, &parsed.understanding));
        progress.inc(1);
    }
    if let Some((mut file, path)) = predictions {
        file.flush().map_err(|error| not_written(&path, &error))?;
    }
    progress.finish_and_clear();
    let report = Report::new(arguments.task, &lines, engine.labels(), &latency);
    if arguments.json { report.print_json() } else { report.print_tables(&engine, &gold, &lines) }
}

/// Before the data is read: its lines look different under another task.
fn check_task(engine: &Engine, task: Task) -> Result<(), Failure> {
    // Telling what is out of scope is part of the intent head.
    let head = match task {
        Task::Intent | Task::Oos => "intent",
        Task::Sentiment => "sentiment",
        Task::Entities => "entities",
        Task::Qa => "qa",
    };
    let manifest = engine.manifest();
    if !manifest.tasks.iter().any(|task| task == head) {
        let tasks = manifest.tasks.join(", ");
        let model = engine.model();
        return Err(Failure::data(format!(
            "the bundle {} {} has no such task as {head}; it has {tasks}",
            model.name, model.version
        )));
    }
    match task {
        Task::Intent | Task::Oos => Ok(()),
        Task::Sentiment | Task::Entities | Task::Qa => {
            Err(Failure::data(format!("this version of intentd can't evaluate the task {head}")))
        }
    }
}

/// Only the heads that are measured; a bundle may have no slots.
fn tasks(engine: &Engine, task: Task) -> Vec<intentd_core::Task> {
    let supported = engine.manifest().supported_tasks();
    let slots = task == Task::Intent && supported.contains(&intentd_core::Task::Slots);
    let slots = slots.then_some(intentd_core::Task::Slots);
    [intentd_core::Task::Intent].into_iter().chain(slots).collect()
}

struct Examinee<'a> {
    worker: Worker,
    model: ModelRef,
    tasks: Vec<intentd_core::Task>,
    data: &'a Path,
}

impl Examinee<'_> {
    /// A text that the bundle refuses (too many wordpieces) is a bad line.
    fn answer(&mut self, gold: &Gold) -> Result<Parsed, Failure> {
        // One alternative, so that a rejected line still tells its best in-scope intent.
        let options = ParseOptions { tasks: self.tasks.clone(), top_k: 1, ..ParseOptions::default() };
        let utterance = Utterance { text: gold.text.clone(), options, ..Utterance::default() };
        understand(&mut self.worker, &self.model, utterance).map_err(|error| {
            let message = format!("{}: line {}: {error}", self.data.display(), gold.number);
            Failure { message, ..error.into() }
        })
    }
}

fn line(gold: &Gold, understanding: &Understanding) -> Line {
    let top = understanding.intent.as_ref().or(understanding.alternatives.first());
    let slots = understanding.slots.iter();
    Line {
        gold_intent: gold.intent.clone(),
        gold_slots: gold.slots.clone(),
        intent: top.map(|intent| intent.name.clone()).unwrap_or_default(),
        confidence: top.map_or(0.0, |intent| intent.confidence.into()),
        slots: slots
            .map(|slot| Span { name: slot.name.clone(), start: slot.chars.start, end: slot.chars.end })
            .collect::<BTreeSet<_>>(),
        rejected: understanding.outcome == Outcome::NotRecognized,
    }
}

fn create(path: &Path) -> Result<(BufWriter<File>, PathBuf), Failure> {
    let file = File::create(path).map_err(|error| not_written(path, &error))?;
    Ok((BufWriter::new(file), path.to_owned()))
}

fn not_written(path: &Path, error: &std::io::Error) -> Failure {
    Failure::io(format!("{} can't be written: {error}", path.display()))
}
