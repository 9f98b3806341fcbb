//! Everything that reads bytes from outside, fed with damaged and crossed samples of what it should read. An input whose
//! outcome is new becomes a sample itself, so that the search goes deeper than the first check.
//!
//! `INTENTD_FUZZ_RUNS` sets the runs of each target, 10,000 by default; what is found prints its input and seed.

#[path = "../../fuzz/readers.rs"]
#[expect(unreachable_pub, reason = "a library for the targets of cargo-fuzz")]
mod readers;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// No input may take longer.
const LIMIT: Duration = Duration::from_millis(50);

const MAX_BYTES: usize = 96 * 1024;
const MAX_SAMPLES: usize = 2048;

/// What tears parsers: ends of UTF-8, of numbers and of nesting, and what this project's formats are made of.
const WORDS: [&[u8]; 32] = [
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xf0\x9f\x91\xa9\xe2\x80\x8d",
    b"\xe2\x80\xae",
    b"\xcc\x81\xcc\x81\xcc\x81",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"[[[[[[[[[[",
    b"}",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"0.1",
    b"{site}",
    b"{device}",
    b"/",
    b"+",
    b"#",
    b"$share/",
    b"\n",
    b"=",
    b"[[files]]\n",
    b"../",
    b"[SEP]",
    b"##",
    b"0000-00-00T99:99:99Z",
    b"127.0.0.1:0",
    b",",
];

#[test]
fn payloads() {
    fuzz("payloads", readers::payloads);
}

#[test]
fn topics() {
    fuzz("topics", readers::topics);
}

#[test]
fn configurations() {
    fuzz("configurations", readers::configurations);
}

#[test]
fn manifests() {
    fuzz("manifests", readers::manifests);
}

#[test]
fn utterances() {
    fuzz("utterances", readers::utterances);
}

#[test]
fn grpc_requests() {
    fuzz("grpc_requests", readers::grpc_requests);
}

/// The corpus of a target: what it should read, and what was found to take ways of its own.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = std::fs::read_dir(readers::root().join("fuzz/corpus").join(target)).unwrap();
    let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Runs a reader; what it returns names the outcome.
fn fuzz(target: &str, check: impl Fn(&[u8]) -> String) {
    let runs = std::env::var("INTENTD_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(10_000);
    let seed = std::env::var("INTENTD_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(6);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut samples = corpus(target);
    let given = samples.len();
    let mut outcomes = HashSet::new();
    let mut slowest = (Duration::ZERO, 0);
    for run in 0..runs {
        let input = if run < given { samples[run].clone() } else { mutate(&samples, &mut random) };
        let told = || format!("{target}, seed {seed}, run {run}: {:?}", String::from_utf8_lossy(&input));
        let once =
            || catch_unwind(AssertUnwindSafe(|| check(&input))).unwrap_or_else(|_| panic!("{}", told()));
        let started = Instant::now();
        let outcome = once();
        let mut time = started.elapsed();
        if time > LIMIT / 5 {
            // The clock on the wall goes on while others have the CPU; this one doesn't.
            let before = on_cpu();
            once();
            time = time.min(on_cpu() - before);
        }
        assert!(time < LIMIT, "{time:?} for {} bytes of {}", input.len(), told());
        slowest = slowest.max((time, input.len()));
        if samples.len() < MAX_SAMPLES && outcomes.insert(outcome) {
            samples.push(input);
        }
    }
    let (time, bytes) = slowest;
    println!(
        "FIGURE F22: {target}: {runs} runs, {} outcomes, slowest {time:?} for {bytes} bytes",
        outcomes.len()
    );
}

/// How long this thread has run, to a few milliseconds (proc(5), `schedstat`).
fn on_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn mutate(samples: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = samples[random.usize(..samples.len())].clone();
    for _ in 0..1 << random.u32(0..5) {
        let at = random.usize(..=bytes.len());
        let end = (at + (1 << random.u32(0..10))).min(bytes.len());
        match random.u32(0..8) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.u32(0..8),
            2 if at < bytes.len() => bytes[at] = random.u8(..),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let other = &samples[random.usize(..samples.len())];
                let from = random.usize(..=other.len());
                drop(bytes.splice(at.., other[from..].iter().copied()));
            }
            5 => {
                let part = bytes[at..end].repeat(1 << random.u32(0..8));
                drop(bytes.splice(at..at, part));
            }
            _ => {
                let word = WORDS[random.usize(..WORDS.len())];
                drop(bytes.splice(at..at, word.iter().copied()));
            }
        }
        bytes.truncate(MAX_BYTES);
    }
    bytes
}
