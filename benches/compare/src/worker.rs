//! An engine as a process that answers lines:
//!
//! - first, unasked: `{"ready": true, "kernel": "avx2", "resident_bytes": 20971520}`
//! - `{"sequences": [[2, 17, 3]], "alone": false, "warm_ups": 1, "passes": 5, "hidden": false}` is answered with
//!   `{"wall_us": [...], "cpu_us": [...]}`, one value a pass; CPU time is that of the whole process
//! - with `"hidden": true` it is `{"hidden": [...]}`, the last hidden states of one pass
//!
//! `alone` makes a batch of each sequence, one after another: what an engine that pads can do instead.

use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::engines::{Batch, Engine};

#[derive(Deserialize)]
struct Request {
    sequences: Vec<Vec<u32>>,
    alone: bool,
    warm_ups: usize,
    passes: usize,
    hidden: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Ready { ready: bool, kernel: String, resident_bytes: u64 },
    Times { wall_us: Vec<f64>, cpu_us: Vec<f64> },
    Hidden { hidden: Vec<f32> },
}

/// Answers until stdin closes.
pub(crate) fn serve(mut engine: impl Engine) -> Result<(), String> {
    say(&Answer::Ready { ready: true, kernel: engine.kernel(), resident_bytes: resident_bytes()? })?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let request = serde_json::from_str(&line).map_err(|e| format!("{e} in {line}"))?;
        say(&answer(&mut engine, request)?)?;
    }
    Ok(())
}

fn answer(engine: &mut impl Engine, request: Request) -> Result<Answer, String> {
    let batches: Vec<Batch> = if request.alone {
        request.sequences.into_iter().map(|sequence| Batch::new(vec![sequence])).collect()
    } else {
        vec![Batch::new(request.sequences)]
    };
    if request.hidden {
        let mut hidden = Vec::new();
        for batch in &batches {
            let output = engine.run(batch)?;
            hidden.extend(engine.hidden(batch, &output)?);
        }
        return Ok(Answer::Hidden { hidden });
    }
    for _ in 0..request.warm_ups {
        pass(engine, &batches)?;
    }
    let times = (0..request.passes).map(|_| pass(engine, &batches)).collect::<Result<Vec<_>, _>>()?;
    let (wall_us, cpu_us) = times.into_iter().unzip();
    Ok(Answer::Times { wall_us, cpu_us })
}

fn pass(engine: &mut impl Engine, batches: &[Batch]) -> Result<(f64, f64), String> {
    let (wall, cpu) = (Instant::now(), cpu_time());
    for batch in batches {
        std::hint::black_box(engine.run(batch)?);
    }
    Ok((microseconds(wall.elapsed()), microseconds(cpu_time() - cpu)))
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e3
}

fn resident_bytes() -> Result<u64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    Ok(kilobytes.ok_or("/proc/self/status has no VmRSS")? * 1024)
}

fn say(answer: &impl Serialize) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer).map_err(|e| e.to_string())?;
    out.write_all(b"\n").and_then(|()| out.flush()).map_err(|e| e.to_string())
}
