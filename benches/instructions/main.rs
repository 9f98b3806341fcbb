//! What `scripts/instructions` counts: one case, done so many times. `instructions CASE TIMES`, or `instructions list`.
//!
//! Cases are the steps of one layer of the default encoder for twelve tokens, and one whole parse. A count has no noise,
//! whatever else the machine does, and so a lasting loss of speed is seen in CI.

#![expect(clippy::print_stdout, reason = "the list of cases is for the script")]

use std::path::Path;
use std::process::ExitCode;

use intentd_core::Utterance;
use intentd_engine::{Engine, Thresholds, Trust};
use intentd_kernels::{Activations, Attention, Kernel, Norm, Then, Weights};

const TOKENS: usize = 12;
/// Channels, channels between the two feed-forward products, groups and heads of `models/home-en`.
const CHANNELS: usize = 384;
const WIDE: usize = 1536;
const GROUPS: usize = 4;
const HEADS: usize = 12;
/// Twelve wordpieces, with the two that mark begin and end.
const UTTERANCE: &str = "wake me up at seven thirty tomorrow morning please now";

const CASES: [&str; 8] =
    ["quantise", "project", "dense", "expand", "contract", "attend", "normalise", "parse"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|word| *word != "--bench").collect();
    match arguments[..] {
        ["list"] => println!("{}", CASES.join("\n")),
        ["parse", times] => parse(count(times)),
        [case, times] if CASES.contains(&case) => step(case, count(times)),
        // `cargo test` and `cargo bench` start every bench: there is nothing to do for them.
        [] => {}
        _ => {
            eprintln!("usage: instructions CASE TIMES; cases: {}", CASES.join(", "));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn count(times: &str) -> usize {
    times.parse().expect("a number of times")
}

fn parse(times: usize) {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/home-en");
    let engine = Engine::open(&bundle, &Trust::default(), Thresholds::default());
    let engine = engine.expect("the committed bundle opens");
    let mut worker = engine.worker().expect("a worker starts");
    let utterance = Utterance { text: UTTERANCE.to_owned(), ..Utterance::default() };
    for _ in 0..times {
        let answers = worker.parse(&[&utterance]);
        let tokens = answers[0].as_ref().expect("an answer").effort.tokens;
        assert_eq!(tokens as usize, TOKENS, "the utterance has other wordpieces than when this was written");
    }
}

/// One step of a layer.
fn step(case: &str, times: usize) {
    let kernel = Kernel::best();
    let (x, wide) = (values(TOKENS * CHANNELS), values(TOKENS * WIDE));
    let (mut out, mut wide_out) = (x.clone(), wide.clone());
    let (mut activations, mut wide_activations) = (Activations::default(), Activations::default());
    kernel.quantise(&x, CHANNELS, &mut activations);
    kernel.quantise(&wide, WIDE, &mut wide_activations);
    let mut attention = Attention::new(HEADS, CHANNELS);
    let norm = Norm::new(vec![1.0; CHANNELS], vec![0.0; CHANNELS], 1e-12);
    let weights = match case {
        "project" => weights(CHANNELS, CHANNELS, GROUPS),
        "dense" => weights(CHANNELS, CHANNELS, 1),
        "expand" => weights(CHANNELS, WIDE, GROUPS),
        _ => weights(WIDE, CHANNELS, GROUPS),
    };
    for _ in 0..times {
        match case {
            "quantise" => kernel.quantise(&wide, WIDE, &mut wide_activations),
            "project" => kernel.multiply(&activations, &weights, Then::Store, &mut out),
            "dense" => kernel.multiply(&activations, &weights, Then::Add(&x), &mut out),
            "expand" => kernel.multiply(&activations, &weights, Then::Gelu, &mut wide_out),
            "contract" => kernel.multiply(&wide_activations, &weights, Then::Add(&x), &mut out),
            "attend" => kernel.attend(&mut attention, 0..TOKENS, [&x; 3], &mut out),
            _ => kernel.normalise(&norm, &mut out),
        }
    }
}

fn weights(inputs: usize, outputs: usize, groups: usize) -> Weights {
    let integers: Vec<i8> =
        values(outputs * inputs / groups).iter().map(|value| (value * 32.0) as i8).collect();
    Weights::new(&integers, groups, vec![0.01; outputs], vec![0.0; outputs]).expect("7-bit weights")
}

/// Values from -2 to 2, always the same.
fn values(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index as f32 * 0.77).sin() * 2.0).collect()
}
