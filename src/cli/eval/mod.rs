//! `intentd eval`: how good a bundle is on labelled lines, and how fast on one thread.

mod answers;
mod entities;
mod gold;
mod intents;
mod labelled;
mod metrics;
mod report;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use intentd_core::{ModelRef, ParseError, ParseOptions, Utterance};
use intentd_engine::{Engine, Worker};

use self::gold::Gold;
use self::report::Report;
use super::latency::Latency;
use super::parse::understand;
use super::{Failure, bundle, screen};
use crate::convert;
use crate::inference::{Answered, Parsed};

/// Lines before the measurement, so that caches and clock are what they are in service. They are repeats of the
/// first lines: every line is scored.
const WARM_UP_LINES: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Gold lines, a JSON object each. intent and oos: {"text", "intent", "slots": [{"name", "start", "end"}]}, intent null
    /// or "oos" where out of scope. sentiment and embedding: {"text", "label"}. entities: {"text", "entities": [{"name",
    /// "start", "end"}]}. qa: {"question", "passage", "answers": [{"text", "start"}]}.
    #[arg(long, value_name = "FILE.jsonl")]
    data: PathBuf,
    /// What to measure; decides which fields are read.
    #[arg(long, value_enum, default_value_t = Task::Intent)]
    task: Task,
    /// Folder of the bundle (else the configured one).
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Write one ParseResponse (AnswerResponse under qa) a line, in the order of the data.
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
    /// Moods.
    Sentiment,
    /// Named entities.
    Entities,
    /// Whether the nearest neighbour of a text, by embedding, has its label.
    Embedding,
    /// Extractive answers.
    Qa,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let engine = bundle::open(arguments.bundle.as_deref())?;
    check_task(&engine, arguments.task)?;
    let mut examinee = Examinee {
        engine: &engine,
        worker: engine.worker().map_err(Failure::software)?,
        data: &arguments.data,
        latency: Latency::new(),
        predictions: arguments.predictions.as_deref(),
    };
    let (name, findings) = match arguments.task {
        Task::Intent => ("intent", intents::evaluate(&mut examinee, Task::Intent)),
        Task::Oos => ("oos", intents::evaluate(&mut examinee, Task::Oos)),
        Task::Sentiment => ("sentiment", labelled::evaluate_sentiment(&mut examinee)),
        Task::Entities => ("entities", entities::evaluate(&mut examinee)),
        Task::Embedding => ("embedding", labelled::evaluate_embedding(&mut examinee)),
        Task::Qa => ("qa", answers::evaluate(&mut examinee)),
    };
    let report = Report::new(name, findings?, &examinee.latency);
    if arguments.json { report.print_json() } else { report.print_tables(engine.model()) }
}

/// Before the data is read: its lines look different under another task.
fn check_task(engine: &Engine, task: Task) -> Result<(), Failure> {
    let head = match task {
        // Telling what is out of scope is part of the intent head.
        Task::Intent | Task::Oos => "intent",
        Task::Sentiment => "sentiment",
        Task::Entities => "entities",
        Task::Embedding => "embedding",
        Task::Qa => "qa",
    };
    let manifest = engine.manifest();
    if manifest.tasks.iter().any(|task| task == head) {
        return Ok(());
    }
    let (model, tasks) = (engine.model(), manifest.tasks.join(", "));
    Err(Failure::data(format!(
        "the bundle {} {} has no such task as {head}; it has {tasks}",
        model.name, model.version
    )))
}

/// A bundle before its questions.
struct Examinee<'a> {
    engine: &'a Engine,
    worker: Worker,
    data: &'a Path,
    latency: Latency,
    predictions: Option<&'a Path>,
}

/// An answer that can be timed and written down.
trait Prediction {
    fn took(&self) -> Duration;
    fn to_json(&self) -> String;
}

impl Prediction for Parsed {
    fn took(&self) -> Duration {
        self.timing.total
    }

    fn to_json(&self) -> String {
        convert::to_json(&convert::answer(self))
    }
}

impl Prediction for Answered {
    fn took(&self) -> Duration {
        self.timing.total
    }

    fn to_json(&self) -> String {
        serde_json::to_string(&convert::answered(self.clone())).expect("an answer has a JSON form")
    }
}

impl Examinee<'_> {
    /// Has every text parsed for these tasks.
    fn parse_all<T>(
        &mut self,
        gold: &[Gold<T>],
        tasks: &[intentd_core::Task],
        text: impl Fn(&T) -> &String,
    ) -> Result<Vec<Parsed>, Failure> {
        self.examine(gold, |worker, model, says| {
            // One alternative, so that a rejected line still tells its best in-scope intent.
            let options = ParseOptions { tasks: tasks.to_vec(), top_k: 1, ..ParseOptions::default() };
            let utterance = Utterance { text: text(says).clone(), options, ..Utterance::default() };
            understand(worker, model, utterance)
        })
    }

    /// Has every line answered. One that the bundle refuses (too many wordpieces) is a bad line.
    fn examine<T, P: Prediction>(
        &mut self,
        gold: &[Gold<T>],
        ask: impl Fn(&mut Worker, &ModelRef, &T) -> Result<P, ParseError>,
    ) -> Result<Vec<P>, Failure> {
        let Self { engine, worker, data, latency, predictions } = self;
        let mut answer = |line: &Gold<T>| {
            ask(worker, engine.model(), &line.says).map_err(|error| {
                let message = format!("{}: line {}: {error}", data.display(), line.number);
                Failure { message, ..error.into() }
            })
        };
        for line in gold.iter().cycle().take(WARM_UP_LINES) {
            answer(line)?;
        }
        let mut file = predictions.map(create).transpose()?;
        let progress = screen::progress("evaluating", gold.len());
        let mut answers = Vec::with_capacity(gold.len());
        for line in gold {
            let answered = answer(line)?;
            latency.record(answered.took());
            if let Some((file, path)) = &mut file {
                let written = writeln!(file, "{}", answered.to_json());
                written.map_err(|error| not_written(path, &error))?;
            }
            answers.push(answered);
            progress.inc(1);
        }
        if let Some((mut file, path)) = file {
            file.flush().map_err(|error| not_written(&path, &error))?;
        }
        progress.finish_and_clear();
        Ok(answers)
    }
}

fn create(path: &Path) -> Result<(BufWriter<File>, PathBuf), Failure> {
    let file = File::create(path).map_err(|error| not_written(path, &error))?;
    Ok((BufWriter::new(file), path.to_owned()))
}

fn not_written(path: &Path, error: &std::io::Error) -> Failure {
    Failure::io(format!("{} can't be written: {error}", path.display()))
}
