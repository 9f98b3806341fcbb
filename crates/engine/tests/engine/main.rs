//! The engine against the committed bundle.

#![expect(clippy::unwrap_used, reason = "tests may stop at the first surprise, in their helpers too")]

/// Every way in which a bundle can be broken is refused with the right error.
mod damage;
/// The same answer in any batch, order and thread, and on every kernel.
mod determinism;
/// Odd texts and options of one utterance.
mod input;
/// A bundle with every task.
mod made_up;
/// The answers of the Python export, and the stock tract plan as oracle.
mod parity;
/// Every task in one pass, questions about passages, and bundles that lack some of them.
mod tasks;
/// What a site demands beside: a signature, a version, sizes; and that nothing is parsed before.
mod trust;

use std::path::PathBuf;
use std::sync::OnceLock;

use intentd_core::{ParseError, Understanding, Utterance};
use intentd_engine::{Engine, Thresholds, Trust};
use serde_json::Value;

fn bundle() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/home-en")
}

/// Opened once for all tests: opening runs the self-test.
fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::open(&bundle(), &Trust::default(), Thresholds::default()).unwrap())
}

fn said(text: &str) -> Utterance {
    Utterance { text: text.to_owned(), ..Utterance::default() }
}

fn parse(utterance: &Utterance) -> Result<Understanding, ParseError> {
    engine().worker().unwrap().parse(&[utterance]).remove(0)
}

/// The vectors that the Python export wrote.
fn vectors() -> Vec<Value> {
    let text = std::fs::read_to_string(bundle().join("selftest.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
