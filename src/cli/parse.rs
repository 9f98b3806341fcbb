//! `intentd parse`: utterances from the command line or standard input, understood in this process or by a server.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use intentd_core::{Invalid, InvalidKind, ModelRef, ParseError, Utterance};
use intentd_engine::Worker;
use tokio::runtime::Runtime;
use tonic::Code;

use super::client::{Client, Server};
use super::lines::{BadLine, Lines};
use super::{Failure, answer, bundle, screen};
use crate::convert;
use crate::inference::{Parsed, Timing};
use crate::proto::{Entity, Error, ParseOptions, ParseRequest, ParseResponse, Sentiment, Task};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Utterances, each one argument (quote it); none: a line of standard input each.
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    #[command(flatten)]
    server: Server,
    /// Folder of the bundle (else the configured one).
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Name of one of the server's bundles (else the server's own).
    #[arg(long, value_name = "NAME", requires = "uri")]
    bundle_name: Option<String>,
    /// What to tell (else intent and slots); may be repeated.
    #[arg(long = "task", value_name = "TASK", value_enum)]
    tasks: Vec<Asked>,
    /// Print one ParseResponse a line.
    #[arg(long)]
    json: bool,
}

/// What can be told about an utterance.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Asked {
    Intent,
    Slots,
    Sentiment,
    Entities,
    Embedding,
}

impl Arguments {
    /// An utterance without its text.
    fn request(&self) -> ParseRequest {
        let mut options = ParseOptions::default();
        let tasks = self.tasks.iter().map(|asked| match asked {
            Asked::Intent => Task::Intent,
            Asked::Slots => Task::Slots,
            Asked::Sentiment => Task::Sentiment,
            Asked::Entities => Task::Entities,
            Asked::Embedding => Task::Embedding,
        });
        options.tasks = tasks.map(i32::from).collect();
        options.bundle = self.bundle_name.clone().unwrap_or_default();
        ParseRequest { options: Some(options), ..ParseRequest::default() }
    }
}

/// Answers every utterance in order; the exit code is 65 when one of them was refused.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut door = match &arguments.server.uri {
        Some(uri) => Door::server(uri, &arguments.server)?,
        None => Door::bundle(arguments)?,
    };
    let ask = |door: &mut Door, text| door.ask(ParseRequest { text, ..arguments.request() });
    let mut printer = Printer { json: arguments.json, answered: 0, refused: 0, first_reason: String::new() };
    if arguments.texts.is_empty() {
        for line in Lines::new(std::io::stdin().lock()) {
            let answer = match line?.text {
                Ok(text) => ask(&mut door, text)?,
                Err(reason) => bad_line(&reason),
            };
            printer.print(&answer)?;
        }
    } else {
        for text in &arguments.texts {
            printer.print(&ask(&mut door, text.clone())?)?;
        }
    }
    printer.finish()
}

fn bad_line(reason: &BadLine) -> ParseResponse {
    let invalid = Invalid { field: "text", kind: InvalidKind::BadValue, message: reason.to_string() };
    convert::refusal(String::new(), &ParseError::Invalid(invalid))
}

/// Who understands.
enum Door {
    Bundle { worker: Box<Worker>, model: ModelRef },
    Server { runtime: Runtime, client: Box<Client>, uri: String },
}

impl Door {
    fn bundle(arguments: &Arguments) -> Result<Self, Failure> {
        let engine = bundle::open(arguments.bundle.as_deref())?;
        let worker = Box::new(engine.worker().map_err(Failure::software)?);
        Ok(Self::Bundle { worker, model: engine.model().clone() })
    }

    fn server(uri: &str, server: &Server) -> Result<Self, Failure> {
        // One thread keeps the connection alive while standard input is waited for.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = Box::new(runtime.block_on(server.connect())?);
        Ok(Self::Server { runtime, client, uri: uri.to_owned() })
    }

    /// An utterance at fault gets an answer with `error`; any other fault ends the command.
    fn ask(&mut self, request: ParseRequest) -> Result<ParseResponse, Failure> {
        match self {
            Self::Bundle { worker, model } => {
                let utterance = convert::utterance(request).map_err(ParseError::from)?;
                match understand(worker, model, utterance) {
                    Ok(parsed) => Ok(convert::answer(&parsed)),
                    Err(error @ ParseError::Invalid(_)) => Ok(convert::refusal(String::new(), &error)),
                    Err(error) => Err(error.into()),
                }
            }
            Self::Server { runtime, client, uri } => match runtime.block_on(client.parse(request)) {
                Ok(response) => Ok(response.into_inner()),
                Err(status) if matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) => {
                    let (code, message) = (status.code() as i32, status.message().to_owned());
                    let error = Error { code, message, field: String::new() };
                    Ok(ParseResponse { error: Some(error), ..ParseResponse::default() })
                }
                Err(status) => Err(Failure::status(uri, &status)),
            },
        }
    }
}

/// One utterance on this thread, tokenise to decode.
pub(super) fn understand(
    worker: &mut Worker,
    model: &ModelRef,
    utterance: Utterance,
) -> Result<Parsed, ParseError> {
    utterance.validate()?;
    let started = Instant::now();
    let answered = worker.parse(&[&utterance]).pop();
    let total = started.elapsed();
    let understanding = answered.unwrap_or_else(|| Err(ParseError::Internal("no answer".to_owned())))?;
    let effort = understanding.effort;
    let timing = Timing {
        tokens: effort.tokens,
        tokenize: effort.tokenize,
        inference: effort.inference,
        total,
        ..Timing::default()
    };
    Ok(Parsed { utterance, understanding, model: model.clone(), timing })
}

struct Printer {
    json: bool,
    answered: usize,
    refused: usize,
    first_reason: String,
}

impl Printer {
    fn print(&mut self, answer: &ParseResponse) -> std::io::Result<()> {
        self.answered += 1;
        if let Some(error) = &answer.error {
            self.refused += 1;
            if self.refused == 1 {
                self.first_reason = error.message.clone();
            }
        }
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", convert::to_json(answer))?;
        } else {
            write_block(&mut out, answer)?;
        }
        out.flush()
    }

    fn finish(self) -> Result<(), Failure> {
        match (self.refused, self.answered) {
            (0, _) => Ok(()),
            (1, 1) => Err(Failure::data(self.first_reason)),
            (refused, answered) => {
                let reason = self.first_reason;
                Err(Failure::data(format!(
                    "{refused} of {answered} utterances were refused; the first: {reason}"
                )))
            }
        }
    }
}

fn write_block(out: &mut impl Write, answer: &ParseResponse) -> std::io::Result<()> {
    if let Some(error) = &answer.error {
        return writeln!(out, "  error: {}\n", error.message);
    }
    writeln!(out, "{}", answer.text)?;
    if let Some((intent, confidence)) = answer::best(answer) {
        let guess = if answer.intent.is_none() { "best guess " } else { "" };
        let confidence = answer::percent(confidence.into());
        writeln!(out, "  {}  {guess}{intent}  {confidence}", answer::outcome(answer))?;
    } else {
        writeln!(out, "  {}", answer::outcome(answer))?;
    }
    for slot in &answer.slots {
        let (confidence, span) = (answer::percent(slot.confidence.into()), slot.start..slot.end);
        writeln!(out, "  {}  characters {}-{}, {confidence}", answer::slot(slot), span.start, span.end)?;
    }
    if let Some(Sentiment { label, score }) = &answer.sentiment {
        writeln!(out, "  mood {label}  {}", answer::percent((*score).into()))?;
    }
    for Entity { r#type: kind, text, start, end, confidence, .. } in &answer.entities {
        let confidence = answer::percent((*confidence).into());
        writeln!(out, "  {kind} \"{text}\"  characters {start}-{end}, {confidence}")?;
    }
    if let [first, second, third, ..] = answer.embedding.as_slice() {
        let length = answer.embedding.len();
        writeln!(out, "  vector of {length}: {first:.3}, {second:.3}, {third:.3}, … (--json has all)")?;
    }
    if let (Some(timing), Some(model)) = (&answer.timing, &answer.model) {
        let time = screen::micros(timing.total_us.into());
        writeln!(out, "  {time}, {} tokens, {} {}", timing.tokens, model.name, model.version)?;
    }
    writeln!(out)
}
