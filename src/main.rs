//! The daemon and its commands: arguments in, exit code out.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use intentd::cli::{self, Arguments};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too. A closed output is not worth another complaint.
            let _ = error.print();
            return if error.use_stderr() { cli::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match cli::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                // Without standard error the exit code still tells.
                let _ = writeln!(std::io::stderr(), "intentd: {}", failure.message);
            }
            failure.code.into()
        }
    }
}
