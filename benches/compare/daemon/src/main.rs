//! The daemon under load: the real `intentd` between this load generator and a real mosquitto on loopback, beside an
//! echo of the same transport (what the network, HTTP/2 or the broker cost whatever is behind them) and the engine in
//! this very process (what understanding costs without any daemon). What is compared runs in short alternating slices,
//! so that the noise of a shared machine hits all of it alike.
//!
//! `plan` says what is measured, `meter` keeps the clock, `grpc` and `mqtt` are the ways to a server, `in_process` has
//! the engine, `processes` starts what runs, `echo` is its other end, `report` judges and prints.

mod echo;
mod grpc;
mod in_process;
mod meter;
mod mqtt;
mod plan;
mod processes;
mod report;
mod tally;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Whatever goes wrong ends the run with one sentence.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures the daemon under load, beside an echo and the engine in this process.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    echo: Option<Echo>,
    #[command(flatten)]
    options: Options,
}

/// What is measured, and where the result goes.
#[derive(clap::Args)]
struct Options {
    /// The daemon's binary.
    #[arg(long, value_name = "FILE", default_value = "target/compare-daemon/release/intentd")]
    intentd: PathBuf,
    /// Folder of the bundle.
    #[arg(long, value_name = "DIR", default_value = "models/home-en")]
    bundle: PathBuf,
    /// Inference threads; 0: one per CPU but one, which is left to the load generator.
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Take half a minute instead of three; tails are then a guess.
    #[arg(long)]
    quick: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Put the tables between the daemon's markers in docs/performance.md, if they are there.
    #[arg(long)]
    write_docs: bool,
}

/// The other ends, each in a process of its own; started by the comparison.
#[derive(Subcommand)]
enum Echo {
    /// A gRPC server with the daemon's service and one fixed answer.
    #[command(hide = true)]
    EchoGrpc {
        /// The answer, a ParseResponse.
        answer: PathBuf,
    },
    /// An MQTT client that answers whatever comes with one fixed answer.
    #[command(hide = true)]
    EchoMqtt {
        /// The answer, a ParseResponse.
        answer: PathBuf,
        /// Port of the broker.
        port: u16,
    },
}

fn main() -> ExitCode {
    let Arguments { echo, options } = Arguments::parse();
    let result = match echo {
        Some(Echo::EchoGrpc { answer }) => echo::grpc(&answer),
        Some(Echo::EchoMqtt { answer, port }) => echo::mqtt(&answer, port),
        None => compare(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare-daemon: {error}");
            ExitCode::FAILURE
        }
    }
}

/// On one thread: it must leave the other CPUs to what it measures, and it starts every process (see `processes`).
fn compare(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(plan::run(options))?;
    report.print(options.json)?;
    if options.write_docs {
        report.write_docs()?;
    }
    Ok(())
}
