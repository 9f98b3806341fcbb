//! `intentd translate`: commands of a home, said in another language by the phrase table; in this process or by a server.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use intentd_core::{ModelRef, ParseError, Utterance};
use intentd_engine::Worker;
use tokio::runtime::Runtime;
use tonic::Code;

use super::client::{Client, Server};
use super::lines::Lines;
use super::parse::understand;
use super::{Failure, bundle};
use crate::proto::TranslateRequest;
use crate::translate::{Phrases, Understood};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Language to say them in, such as de or fr-CH.
    #[arg(long, value_name = "LANGUAGE")]
    to: String,
    /// Utterances, each one argument (quote it); none: a line of standard input each.
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    #[command(flatten)]
    server: Server,
    /// Folder of the bundle (else the configured one).
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
}

/// Prints a line for every utterance, empty where there is no translation; the reasons go to standard error, and the
/// exit code is then 65.
pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut door = Door::open(arguments)?;
    let (mut said, mut refused) = (0, 0);
    let mut print = |text: &str, answer: Result<String, String>| -> Result<(), Failure> {
        said += 1;
        let line = answer.unwrap_or_else(|reason| {
            refused += 1;
            // Without standard error the exit code still tells.
            let _ = writeln!(std::io::stderr(), "{text}: {reason}");
            String::new()
        });
        Ok(writeln!(std::io::stdout(), "{line}")?)
    };
    if arguments.texts.is_empty() {
        for line in Lines::new(std::io::stdin().lock()) {
            match line?.text {
                Ok(text) => print(&text, door.ask(&text, &arguments.to)?)?,
                Err(reason) => print("", Err(reason.to_string()))?,
            }
        }
    } else {
        for text in &arguments.texts {
            print(text, door.ask(text, &arguments.to)?)?;
        }
    }
    match refused {
        0 => Ok(()),
        _ => Err(Failure::data(format!("{refused} of {said} utterances have no translation"))),
    }
}

/// Who understands and translates.
enum Door {
    Bundle { worker: Box<Worker>, model: ModelRef },
    Server { runtime: Runtime, client: Box<Client>, uri: String },
}

impl Door {
    fn open(arguments: &Arguments) -> Result<Self, Failure> {
        if let Some(uri) = arguments.server.uri.clone() {
            // One thread keeps the connection alive while standard input is waited for.
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let client = Box::new(runtime.block_on(arguments.server.connect())?);
            return Ok(Self::Server { runtime, client, uri });
        }
        Phrases::get().language(&arguments.to).map_err(Failure::usage)?;
        let engine = bundle::open(arguments.bundle.as_deref())?;
        let worker = Box::new(engine.worker().map_err(Failure::software)?);
        Ok(Self::Bundle { worker, model: engine.model().clone() })
    }

    /// The translation, or why there is none; any other fault ends the command.
    fn ask(&mut self, text: &str, language: &str) -> Result<Result<String, String>, Failure> {
        match self {
            Self::Bundle { worker, model } => {
                let utterance = Utterance { text: text.to_owned(), ..Utterance::default() };
                let parsed = match understand(worker, model, utterance) {
                    Ok(parsed) => parsed,
                    Err(error @ ParseError::Invalid(_)) => return Ok(Err(error.to_string())),
                    Err(error) => return Err(error.into()),
                };
                let said = Understood::new(text, &parsed.understanding)
                    .and_then(|understood| Phrases::get().say(&understood, language));
                Ok(said.map_err(|error| error.to_string()))
            }
            Self::Server { runtime, client, uri } => {
                let (text, language) = (text.to_owned(), language.to_owned());
                let request = TranslateRequest { text, language, ..TranslateRequest::default() };
                match runtime.block_on(client.translate(request)) {
                    Ok(response) => Ok(Ok(response.into_inner().text)),
                    Err(status) => match status.code() {
                        Code::InvalidArgument | Code::OutOfRange | Code::NotFound => {
                            Ok(Err(status.message().to_owned()))
                        }
                        _ => Err(Failure::status(uri, &status)),
                    },
                }
            }
        }
    }
}
