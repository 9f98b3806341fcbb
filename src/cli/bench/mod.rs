//! `intentd bench`: latency and throughput, of a bundle in this process or of a running daemon over gRPC.

mod in_process;
mod server;

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::client::Server;
use super::{Failure, bundle, screen};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder of the bundle (else the configured one).
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    server: Server,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints. What a server does not tell is null.
#[derive(Debug, Serialize)]
struct Report {
    bundle: String,
    version: String,
    intentd: &'static str,
    server: Option<String>,
    kernels: Option<Vec<&'static str>>,
    /// Of this process: after opening the bundle, and after the measurement.
    resident_bytes_at_rest: Option<u64>,
    resident_bytes: Option<u64>,
    in_process: Vec<in_process::Cell>,
    grpc: Vec<server::Cell>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let report = match &arguments.server.uri {
        Some(uri) => over_grpc(uri, &arguments.server)?,
        None => {
            let engine = bundle::open(arguments.bundle.as_deref())?;
            let resident_bytes_at_rest = resident_bytes();
            let in_process = in_process::measure(&engine)?;
            Report {
                bundle: engine.model().name.clone(),
                version: engine.model().version.clone(),
                intentd: env!("CARGO_PKG_VERSION"),
                server: None,
                kernels: Some(vec![engine.kernel()]),
                resident_bytes_at_rest,
                resident_bytes: resident_bytes(),
                in_process,
                grpc: Vec::new(),
            }
        }
    };
    if arguments.json { print_json(&report) } else { print_tables(&report) }
}

fn over_grpc(uri: &str, server: &Server) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let (model, grpc) = runtime.block_on(server::measure(uri, server))?;
    Ok(Report {
        bundle: model.name,
        version: model.version,
        intentd: env!("CARGO_PKG_VERSION"),
        server: Some(uri.to_owned()),
        kernels: None,
        resident_bytes_at_rest: None,
        resident_bytes: None,
        in_process: Vec::new(),
        grpc,
    })
}

fn print_json(report: &Report) -> Result<(), Failure> {
    let json = serde_json::to_string(report).map_err(Failure::software)?;
    writeln!(std::io::stdout().lock(), "{json}")?;
    Ok(())
}

fn print_tables(report: &Report) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {}, intentd {}", report.bundle, report.version, report.intentd)?;
    if let Some(kernels) = &report.kernels {
        writeln!(out, "kernel {}, one thread", kernels.join(", "))?;
    }
    if let (Some(rest), Some(load)) = (report.resident_bytes_at_rest, report.resident_bytes) {
        writeln!(out, "resident {} at rest, {} after load", screen::bytes(rest), screen::bytes(load))?;
    }
    if !report.in_process.is_empty() {
        writeln!(out, "{}", in_process::table(&report.in_process))?;
    }
    if !report.grpc.is_empty() {
        writeln!(out, "{}", server::table(&report.grpc))?;
    }
    Ok(())
}

/// Memory of this process that lies in RAM, from /proc/self/status (where it has its unit, other than in statm).
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_plausible() {
        let bytes = resident_bytes().unwrap();
        assert!((256 * 1024..64 << 30).contains(&bytes), "{bytes}");
    }
}
