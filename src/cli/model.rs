//! `intentd model`: what is in a bundle and what of it runs in 8 bits.

use std::collections::BTreeMap;
use std::io::{StdoutLock, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use intentd_engine::{Engine, Operator};
use serde_json::json;

use super::{Failure, bundle, screen};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show a bundle's facts and files, how long it takes to start, and the operators of its running graphs.
    Inspect(Inspect),
    /// Check every file against the manifest, load the graphs and run the self-test; exit code 78 if it fails.
    Verify(Verify),
}

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// Folder of the bundle (else the configured one).
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// List every node of the graphs instead of counting equal ones.
    #[arg(long)]
    all: bool,
    /// Print one JSON object, with every node.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Folder of the bundle (else the configured one).
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match command {
        Command::Inspect(Inspect { folder, all, json }) => {
            let engine = bundle::open(folder.as_deref())?;
            if *json { print_json(&mut out, &engine) } else { print_tables(&mut out, &engine, *all) }
        }
        // Opening does all of it.
        Command::Verify(Verify { folder }) => {
            let engine = bundle::open(folder.as_deref())?;
            let (model, files) = (engine.model(), engine.manifest().files.len());
            writeln!(out, "{} {}: {files} files as listed, self-test passed", model.name, model.version)?;
            Ok(())
        }
    }
}

fn print_json(out: &mut StdoutLock<'_>, engine: &Engine) -> Result<(), Failure> {
    let manifest = engine.manifest();
    let files = manifest.files.iter();
    let operators = engine.operators();
    let startup = engine.startup();
    let object = json!({
        "name": manifest.name,
        "version": manifest.version,
        "languages": manifest.languages,
        "licence": manifest.licence,
        "tasks": manifest.tasks,
        "minimum_intentd": manifest.minimum_intentd,
        "size_class": manifest.size_class,
        "max_tokens": manifest.max_tokens,
        "intents": engine.labels().intents,
        "slots": engine.labels().slots,
        "sentiment": engine.labels().sentiment,
        "entities": engine.labels().entities,
        "files": files
            .map(|file| json!({"path": file.path, "bytes": file.bytes, "sha256": file.sha256}))
            .collect::<Vec<_>>(),
        "startup_us": {
            "verify": startup.verify.as_micros() as u64,
            "load": startup.load.as_micros() as u64,
            "self_test": startup.self_test.as_micros() as u64,
        },
        "kernel": engine.kernel(),
        "operators": operators
            .iter()
            .map(|operator| json!({
                "graph": operator.graph,
                "node": operator.node,
                "operator": operator.operator,
                "kernel": operator.kernel,
                "precision": operator.precision,
                "shape": operator.shape,
            }))
            .collect::<Vec<_>>(),
    });
    writeln!(out, "{object}")?;
    Ok(())
}

fn print_tables(out: &mut StdoutLock<'_>, engine: &Engine, all: bool) -> Result<(), Failure> {
    print_facts(out, engine)?;
    print_files(out, engine)?;
    let operators = engine.operators();
    if all {
        print_nodes(out, &operators)?;
    } else {
        print_kinds(out, &operators)?;
    }
    let int8 = operators.iter().filter(|operator| operator.kernel.is_some()).count();
    writeln!(out, "{int8} of {} operators run on the kernel {}.", operators.len(), engine.kernel())?;
    if !all {
        writeln!(out, "Every node: --all")?;
    }
    Ok(())
}

fn print_facts(out: &mut StdoutLock<'_>, engine: &Engine) -> Result<(), Failure> {
    let (manifest, labels, startup) = (engine.manifest(), engine.labels(), engine.startup());
    let us = |time: std::time::Duration| screen::micros(time.as_secs_f64() * 1e6);
    writeln!(out, "{} {}", manifest.name, manifest.version)?;
    writeln!(out, "  languages   {}", manifest.languages.join(", "))?;
    writeln!(out, "  licence     {}", manifest.licence)?;
    writeln!(out, "  tasks       {}", manifest.tasks.join(", "))?;
    let kinds = [
        (labels.intents.len(), "intents"),
        (labels.slots.len(), "slots"),
        (labels.sentiment.len(), "moods"),
        (labels.entities.len(), "kinds of entities"),
    ];
    let kinds = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    writeln!(out, "  labels      {}", kinds.collect::<Vec<_>>().join(", "))?;
    writeln!(out, "  size class  {}, {} tokens at most", manifest.size_class, manifest.max_tokens)?;
    writeln!(out, "  needs       intentd {} or newer", manifest.minimum_intentd)?;
    let (verify, load, self_test) = (us(startup.verify), us(startup.load), us(startup.self_test));
    writeln!(out, "  start       verify {verify}, load {load}, self-test {self_test}")?;
    Ok(())
}

fn print_files(out: &mut StdoutLock<'_>, engine: &Engine) -> Result<(), Failure> {
    let mut table = screen::table(&["file", "size", "sha256"]);
    let files = &engine.manifest().files;
    for file in files {
        let digest = file.sha256.get(..16).unwrap_or(&file.sha256);
        table.add_row([file.path.as_str().into(), screen::number(screen::bytes(file.bytes)), digest.into()]);
    }
    let all = screen::bytes(files.iter().map(|file| file.bytes).sum());
    writeln!(out, "\n{table}\nIn all {all}.\n")?;
    Ok(())
}

fn print_nodes(out: &mut StdoutLock<'_>, operators: &[Operator]) -> Result<(), Failure> {
    let mut table = screen::table(&["graph", "node", "operator", "kernel", "precision", "shape"]);
    for operator in operators {
        let kernel = operator.kernel.unwrap_or("");
        let cells = [
            operator.graph,
            &operator.node,
            &operator.operator,
            kernel,
            &operator.precision,
            &operator.shape,
        ];
        table.add_row(cells);
    }
    writeln!(out, "{table}")?;
    Ok(())
}

/// One row for all nodes of a graph that compute alike; those on our kernel first.
fn print_kinds(out: &mut StdoutLock<'_>, operators: &[Operator]) -> Result<(), Failure> {
    let mut kinds: BTreeMap<_, usize> = BTreeMap::new();
    for operator in operators {
        let Operator { graph, operator: name, kernel, precision, .. } = operator;
        *kinds.entry((*graph, kernel.is_none(), name, precision, kernel.unwrap_or(""))).or_default() += 1;
    }
    let mut table = screen::table(&["graph", "operator", "nodes", "precision", "kernel"]);
    for ((graph, _, name, precision, kernel), nodes) in kinds {
        table.add_row([graph.into(), name.into(), screen::number(nodes), precision.into(), kernel.into()]);
    }
    writeln!(out, "{table}")?;
    Ok(())
}
