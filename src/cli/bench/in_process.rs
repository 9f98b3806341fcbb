//! One thread around the engine, without admission: sequence length by batch.

use std::time::{Duration, Instant};

use comfy_table::Table;
use intentd_core::Utterance;
use intentd_engine::{Engine, Worker};
use serde::Serialize;

use crate::cli::latency::Latency;
use crate::cli::{Failure, screen};

/// Wordpieces of an utterance, with the two that mark begin and end.
const TOKENS: [usize; 7] = [4, 8, 12, 16, 32, 64, 128];
const BATCHES: [usize; 3] = [1, 8, 32];

/// Time for one cell, so that the whole takes some seconds; a run that takes longer is the only one of its cell.
const BUDGET: Duration = Duration::from_millis(250);
const MAX_RUNS: usize = 500;

/// Every vocabulary has these as one wordpiece each.
const WORDS: [&str; 10] = ["turn", "on", "the", "lights", "in", "the", "room", "at", "ten", "please"];

/// One sequence length and batch.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    /// As the tokenizer counted.
    tokens: usize,
    batch: usize,
    runs: u64,
    /// Of the whole batch.
    median_us: Option<f64>,
    p99_us: Option<f64>,
    tokens_per_s: f64,
}

pub(super) fn measure(engine: &Engine) -> Result<Vec<Cell>, Failure> {
    let mut worker = engine.worker().map_err(Failure::software)?;
    let lengths: Vec<usize> =
        TOKENS.into_iter().filter(|tokens| *tokens <= engine.manifest().max_tokens).collect();
    let progress = screen::progress("measuring", lengths.len() * BATCHES.len());
    let mut cells = Vec::new();
    for tokens in lengths {
        let utterance = Utterance { text: text(tokens), ..Utterance::default() };
        for batch in BATCHES {
            cells.push(cell(&mut worker, &utterance, batch)?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(cells)
}

/// A text of this many wordpieces, begin and end among them.
fn text(tokens: usize) -> String {
    WORDS.into_iter().cycle().take(tokens.saturating_sub(2)).collect::<Vec<_>>().join(" ")
}

fn cell(worker: &mut Worker, utterance: &Utterance, batch: usize) -> Result<Cell, Failure> {
    // One alone warms up and tells its length.
    let tokens = run(worker, &[utterance])?;
    let utterances = vec![utterance; batch];
    let mut latency = Latency::new();
    let started = Instant::now();
    for _ in 0..MAX_RUNS {
        let began = Instant::now();
        run(worker, &utterances)?;
        latency.record(began.elapsed());
        if started.elapsed() > BUDGET {
            break;
        }
    }
    let all = latency.count() as f64 * (batch * tokens) as f64;
    Ok(Cell {
        tokens,
        batch,
        runs: latency.count(),
        median_us: latency.quantile_us(0.5),
        p99_us: latency.quantile_us(0.99),
        tokens_per_s: all / started.elapsed().as_secs_f64(),
    })
}

/// Wordpieces of each utterance of the batch.
fn run(worker: &mut Worker, utterances: &[&Utterance]) -> Result<usize, Failure> {
    let mut tokens = 0;
    for result in worker.parse(utterances) {
        tokens = result?.effort.tokens as usize;
    }
    Ok(tokens)
}

pub(super) fn table(cells: &[Cell]) -> Table {
    let mut table = screen::table(&["tokens", "batch", "median", "p99", "tokens/s", "runs"]);
    for cell in cells {
        let time = |us: Option<f64>| screen::number(us.map(screen::micros).unwrap_or_default());
        let (tokens, batch, runs) = (cell.tokens, cell.batch as u64, cell.runs);
        let rate = screen::number(format!("{:.0}", cell.tokens_per_s));
        let (median, p99) = (time(cell.median_us), time(cell.p99_us));
        table.add_row([
            screen::number(tokens),
            screen::number(batch),
            median,
            p99,
            rate,
            screen::number(runs),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_a_word_for_each_token_but_the_two_marks() {
        for tokens in TOKENS {
            assert_eq!(text(tokens).split(' ').count(), tokens - 2);
        }
        assert_eq!(text(4), "turn on");
    }
}
