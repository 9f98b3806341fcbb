//! The rows that were measured, what they say about the aims, and how both are printed.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::Result;
use crate::meter::Load;
use crate::plan::{Call, Cell, Who};
use crate::tally::Tally;

/// What transport may cost: so many times what it costs in front of an echo.
const OVER_ECHO: f64 = 1.3;

/// What streams must reach of the throughput without a daemon.
const OF_IN_PROCESS: f64 = 0.9;

/// The 99th percentile at half load, in medians.
const TAIL: f64 = 3.0;

const DOCUMENT: &str = "docs/performance.md";
const MARKERS: (&str, &str) = ("<!-- daemon:begin -->", "<!-- daemon:end -->");

/// What was measured of one cell.
pub(crate) struct Row {
    pub(crate) cell: Cell,
    pub(crate) tally: Tally,
}

/// Everything.
pub(crate) struct Report {
    machine: Value,
    rows: Vec<Row>,
    aims: Vec<Aim>,
}

/// What issue and docs want, and what came of it.
struct Aim {
    name: String,
    value: f64,
    limit: f64,
    at_least: bool,
}

impl Aim {
    fn reached(&self) -> bool {
        if self.at_least { self.value >= self.limit } else { self.value <= self.limit }
    }
}

impl Report {
    pub(crate) fn new(kernel: &str, threads: usize, rows: Vec<Row>) -> Self {
        let machine = json!({
            "cpu": cpu_model(),
            "cpus": std::thread::available_parallelism().map_or(1, usize::from),
            "kernel": kernel,
            "inference_threads": threads,
        });
        let aims = aims(&rows);
        Self { machine, rows, aims }
    }

    pub(crate) fn print(&self, as_json: bool) -> Result<()> {
        if as_json {
            let rows: Vec<Value> = self.rows.iter().map(row_json).collect();
            let aims: Vec<Value> = self.aims.iter().map(aim_json).collect();
            println!("{}", json!({ "machine": self.machine, "rows": rows, "aims": aims }));
        } else {
            print!("{}", self.markdown()?);
        }
        Ok(())
    }

    /// Replaces what stands between the markers. Without document or markers there is nothing to do.
    pub(crate) fn write_docs(&self) -> Result<()> {
        let Ok(document) = std::fs::read_to_string(DOCUMENT) else {
            eprintln!("compare-daemon: there is no {DOCUMENT} to write to");
            return Ok(());
        };
        let (begin, end) = MARKERS;
        let parts =
            document.split_once(begin).and_then(|(before, rest)| Some((before, rest.split_once(end)?.1)));
        let Some((before, after)) = parts else {
            eprintln!("compare-daemon: {DOCUMENT} has no {begin} ... {end}");
            return Ok(());
        };
        std::fs::write(DOCUMENT, format!("{before}{begin}\n{}{end}{after}", self.markdown()?))?;
        Ok(())
    }

    fn markdown(&self) -> Result<String> {
        let mut out = String::new();
        let machine = |key: &str| self.machine[key].to_string().replace('"', "");
        writeln!(
            out,
            "{}, {} CPUs, kernel {}, {} inference thread(s). Times in microseconds, from the intended start.\n",
            machine("cpu"),
            machine("cpus"),
            machine("kernel"),
            machine("inference_threads")
        )?;
        writeln!(out, "| aim | value | limit | reached |\n| --- | ---: | ---: | --- |")?;
        for aim in &self.aims {
            let Aim { name, value, limit, at_least } = aim;
            let bound = if *at_least { "at least" } else { "at most" };
            let (value, limit) = (figure(*value), figure(*limit));
            let reached = if aim.reached() { "yes" } else { "no" };
            writeln!(out, "| {name} | {value} | {bound} {limit} | {reached} |")?;
        }
        writeln!(
            out,
            "\n| call | tokens | load | who | median | p90 | p99 | max | queue | inference | CPU | answers/s | \
             refused | failed |\n| --- | ---: | --- | --- | {} ---: |",
            "---: | ".repeat(9).trim_end()
        )?;
        for row in &self.rows {
            writeln!(out, "{}", row_markdown(row))?;
        }
        Ok(out)
    }
}

/// Each aim whose rows were measured.
fn aims(rows: &[Row]) -> Vec<Aim> {
    let one_at_a_time = rows.iter().filter(|row| matches!(row.cell.load, Load::InFlight(1)));
    let ways = one_at_a_time.filter(|row| matches!(row.cell.call, Call::Unary | Call::Mqtt));
    let medians = ways.filter_map(|row| median_aim(rows, row));
    let tails = rows.iter().filter(|row| row.cell.share == Some(0.5)).filter_map(tail_aim);
    medians.chain(stream_aim(rows)).chain(tails).collect()
}

fn median_aim(rows: &[Row], daemons: &Row) -> Option<Aim> {
    let Cell { who: Who::Intentd, call, tokens, .. } = daemons.cell else { return None };
    let median = |who: Who, call: Call| {
        let same = |cell: &Cell| (cell.who, cell.call, cell.tokens) == (who, call, tokens);
        let alone = |cell: &Cell| matches!(cell.load, Load::InFlight(1));
        rows.iter().find(|row| same(&row.cell) && alone(&row.cell))?.tally.latency.quantile_us(0.5)
    };
    let in_process = median(Who::InProcess, Call::Parse { threads: 1, batch: 1 })?;
    Some(Aim {
        name: format!("{}, {tokens} tokens: median; in-process + {OVER_ECHO} x echo", call_name(call)),
        value: median(Who::Intentd, call)?,
        limit: in_process + OVER_ECHO * median(Who::Echo, call)?,
        at_least: false,
    })
}

fn stream_aim(rows: &[Row]) -> Option<Aim> {
    let many = |row: &&Row| matches!(row.cell.load, Load::InFlight(count) if count > 1);
    let batches = |row: &&Row| matches!(row.cell.call, Call::Parse { batch, .. } if batch > 1);
    let most = |row: &&Row| (row.cell.who, row.cell.call) == (Who::Intentd, Call::Stream);
    let in_process = rows.iter().find(batches)?.tally.rate();
    let streams = rows.iter().filter(most).filter(many).map(|row| row.tally.rate());
    Some(Aim {
        name: "streams, most in flight: answers/s; share of in-process batches".to_owned(),
        value: streams.fold(0.0, f64::max) / in_process,
        limit: OF_IN_PROCESS,
        at_least: true,
    })
}

fn tail_aim(row: &Row) -> Option<Aim> {
    let times = &row.tally.latency;
    let (who, call) = (row.cell.who, call_name(row.cell.call));
    (who == Who::Intentd).then_some(Aim {
        name: format!("{call}, half load: p99; in medians"),
        value: times.quantile_us(0.99)? / times.quantile_us(0.5)?,
        limit: TAIL,
        at_least: false,
    })
}

fn aim_json(aim: &Aim) -> Value {
    json!({
        "name": aim.name,
        "value": aim.value,
        "limit": aim.limit,
        "at_least": aim.at_least,
        "reached": aim.reached(),
    })
}

fn row_json(Row { cell, tally }: &Row) -> Value {
    let (in_flight, wanted) = match cell.load {
        Load::InFlight(count) => (Some(count), None),
        Load::PerSecond(rate) => (None, Some(rate)),
    };
    let (threads, batch) = match cell.call {
        Call::Parse { threads, batch } => (Some(threads), Some(batch)),
        Call::Unary | Call::Stream | Call::Mqtt => (None, None),
    };
    json!({
        "who": who_name(cell.who),
        "call": call_name(cell.call),
        "tokens": cell.tokens,
        "threads": threads,
        "batch": batch,
        "in_flight": in_flight,
        "share_of_capacity": cell.share,
        "arrivals_per_s": wanted,
        "answers_per_s": tally.rate(),
        "answers": tally.answers,
        "refused": tally.refused,
        "failed": tally.failed,
        "median_us": tally.latency.quantile_us(0.5),
        "p90_us": tally.latency.quantile_us(0.9),
        "p99_us": tally.latency.quantile_us(0.99),
        "max_us": tally.latency.quantile_us(1.0),
        "queue_us": queue(cell, tally),
        "inference_us": inference(cell, tally),
        "server_cpu_us": cpu(tally),
    })
}

fn row_markdown(Row { cell, tally }: &Row) -> String {
    let load = match (cell.call, cell.load, cell.share) {
        (Call::Parse { threads, batch }, ..) => format!("{threads} x {batch} at once"),
        (_, Load::InFlight(count), _) => format!("{count} in flight"),
        (_, Load::PerSecond(rate), share) => format!("{rate:.0}/s ({:.0} %)", 100.0 * share.unwrap_or(1.0)),
    };
    let quantile = |quantile| tally.latency.quantile_us(quantile);
    let numbers = [
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(1.0),
        queue(cell, tally),
        inference(cell, tally),
        cpu(tally),
        Some(tally.rate()),
    ];
    let numbers = numbers.map(|number| number.map(|number| format!("{number:.0}")).unwrap_or_default());
    let (call, who) = (call_name(cell.call), who_name(cell.who));
    let (refused, failed) = (tally.refused, tally.failed);
    format!("| {call} | {} | {load} | {who} | {} | {refused} | {failed} |", cell.tokens, numbers.join(" | "))
}

/// What the daemon says of itself; the echo only repeats it.
fn queue(cell: &Cell, tally: &Tally) -> Option<f64> {
    tally.queue.quantile_us(0.5).filter(|_| cell.who == Who::Intentd)
}

fn inference(cell: &Cell, tally: &Tally) -> Option<f64> {
    tally.inference.quantile_us(0.5).filter(|_| cell.who == Who::Intentd)
}

/// The server's CPU time for one answer.
fn cpu(tally: &Tally) -> Option<f64> {
    (!tally.cpu.is_zero()).then(|| tally.cpu.as_secs_f64() * 1e6 / tally.answers.max(1) as f64)
}

fn who_name(who: Who) -> &'static str {
    match who {
        Who::InProcess => "in-process",
        Who::Echo => "echo",
        Who::Intentd => "intentd",
    }
}

fn call_name(call: Call) -> &'static str {
    match call {
        Call::Parse { .. } => "parse",
        Call::Unary => "unary",
        Call::Stream => "stream",
        Call::Mqtt => "mqtt",
    }
}

fn figure(number: f64) -> String {
    if number >= 100.0 { format!("{number:.0}") } else { format!("{number:.2}") }
}

fn cpu_model() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or("unknown CPU", |(_, model)| model).to_owned()
}
