//! Worker processes of the comparison. `compare.py` starts them, each pinned to a CPU, and asks them in turn.

mod engines;
mod peaks;
mod scaling;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use engines::candle::Candle;
use engines::intentd::Intentd;
use engines::rten::Rten;
use engines::tract::Tract;

/// Measures engines and this CPU.
#[derive(Parser)]
enum Command {
    /// Loads a model and then answers requests, one JSON object a line.
    Engine { name: EngineName, model: PathBuf },
    /// Prints the fastest register-only loops, and read bandwidth, on one CPU and on all the named ones at once.
    Peaks {
        #[arg(required = true)]
        cpus: Vec<usize>,
    },
    /// Prints what two threads gain over one: intentd on MODEL and the register-only loop, in turns.
    Scaling { model: PathBuf, tokens: u32, first_cpu: usize, second_cpu: usize },
}

#[derive(Clone, Copy, ValueEnum)]
enum EngineName {
    /// Our operator in tract.
    Intentd,
    /// tract's own operators on an ONNX file of a peer's form.
    Tract,
    /// tract's own operators on the int8 file that intentd runs.
    TractInt8,
    Rten,
    /// SqueezeBERT written in candle, on f32 weights.
    Candle,
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::Engine { name, model } => match name {
            EngineName::Intentd => Intentd::load(&model).and_then(worker::serve),
            EngineName::Tract => Tract::load(&model).and_then(worker::serve),
            EngineName::TractInt8 => Intentd::load_stock(&model).and_then(worker::serve),
            EngineName::Rten => Rten::load(&model).and_then(worker::serve),
            EngineName::Candle => Candle::load(&model).and_then(worker::serve),
        },
        Command::Peaks { cpus } => peaks::report(&cpus),
        Command::Scaling { model, tokens, first_cpu, second_cpu } => {
            scaling::report(&model, tokens, &[first_cpu, second_cpu])
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("compare: {message}");
            ExitCode::FAILURE
        }
    }
}
