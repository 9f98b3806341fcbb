//! The commands: what they take and which file does each. Exit codes: 0, 64 usage, 65 bad data given to a command,
//! 69 a port in use or a server unreachable, 78 configuration or bundle; 70, 71 and 74 as in sysexits.h.

mod answer;
mod bench;
mod bundle;
mod client;
mod config;
mod demo;
mod eval;
mod failure;
mod latency;
mod lines;
mod model;
mod parse;
mod screen;
mod serve;
mod translate;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Sources;

pub use failure::{Failure, USAGE};

/// Version, and revision of the source.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("INTENTD_REVISION"), ")");

/// Understands what people say to their devices, over gRPC and MQTT.
#[derive(Debug, Parser)]
#[command(name = "intentd", version = VERSION, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM.
    Serve(Settings),
    /// Start everything on its defaults, play some utterances through both doors, and stay up.
    Demo(demo::Arguments),
    /// Understand utterances: each TEXT, else each line of standard input.
    Parse(parse::Arguments),
    /// Say utterances in another language: each TEXT, else each line of standard input.
    Translate(translate::Arguments),
    /// Measure a bundle on labelled lines.
    Eval(eval::Arguments),
    /// Measure latency and throughput.
    Bench(bench::Arguments),
    /// Look into a bundle.
    #[command(subcommand)]
    Model(model::Command),
    /// Check or show the configuration.
    #[command(subcommand)]
    Config(config::Command),
}

/// Where settings come from, beside the defaults and the environment.
#[derive(Debug, Args)]
struct Settings {
    /// Configuration file (else /etc/intentd/intentd.toml, if it is there).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, such as grpc.listen=127.0.0.1:50052; may be repeated, and wins over file and environment.
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

impl From<Settings> for Sources {
    fn from(settings: Settings) -> Self {
        Self { file: settings.config, flags: settings.set }
    }
}

/// Does what the arguments ask for.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Serve(settings) => serve::run(&settings.into()),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Parse(arguments) => parse::run(&arguments),
        Command::Translate(arguments) => translate::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Model(command) => model::run(&command),
        Command::Config(command) => config::run(command),
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("give it as KEY=VALUE, such as log.level=debug".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn settings_are_cut_at_the_first_equals_sign() {
        assert_eq!(setting("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert_eq!(setting("a="), Ok(("a".to_owned(), String::new())));
        assert!(setting("=b").is_err() && setting("a").is_err());
    }
}
