//! The engine of intentd: opens a bundle and turns utterances into intents and slots. It knows tract and tokenizers, no
//! network, no clock but for timings, and keeps no state between utterances: the same utterance gets the same answer in
//! any batch and on any thread.
//!
//! [`Engine::open`] goes through the house once:
//!
//! - `bundle`: verifies signature, size and checksum of every file before a parser sees a byte; labels, calibration.
//! - `tokenizer`: text to wordpieces, words and offsets.
//! - [`model`] with `ops`: the ONNX graphs in tract, our int8 operator in place of every quantised convolution. `heads`:
//!   those of the bundle's tasks.
//! - `selftest`: a bundle that does not answer as its author saw it is not opened.
//!
//! [`Worker::parse`] then goes: `tokenizer`, encoder, heads, and `understand`: `calibrate` for intent and mood, `decode`
//! for slots and entities, `resolve` for the values of slots. [`Worker::answer`] cuts passages into windows, which go
//! through encoder and head alike (`passages`).

#![forbid(unsafe_code)]

mod bundle;
mod calibrate;
mod decode;
mod error;
mod heads;
pub mod model;
mod ops;
mod passages;
mod resolve;
mod selftest;
pub mod tokenizer;
mod understand;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use intentd_core::{ModelRef, ParseError, Task};
use intentd_kernels::Kernel;

use bundle::{Calibration, Vector, Verified};
use decode::Decoder;
use heads::Heads;
use model::{Model, Operators};
use tokenizer::Tokenizer;
use worker::Shared;

pub use bundle::{
    FileEntry, Labels, Manifest, NoVersion, Thresholds, TokenTypes, Trust, TrustedKey, Version,
};
pub use error::{OpenError, WorkerError};
pub use model::Operator;
pub use resolve::{Names, number};
pub use worker::Worker;

/// A bundle in memory, ready to understand. Shared by all threads; each makes its own [`Worker`].
pub struct Engine {
    model: ModelRef,
    kernel: Kernel,
    shared: Arc<Shared>,
    startup: StartupTimes,
}

/// How long the parts of [`Engine::open`] took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartupTimes {
    /// Reading and hashing.
    pub verify: Duration,
    /// Parsing, building and optimising the graphs.
    pub load: Duration,
    /// Parsing the self-test vectors and comparing the answers.
    pub self_test: Duration,
}

impl Engine {
    /// Opens a bundle: verifies that it is what the site trusts and every file, builds the graphs, runs the self-test.
    /// From then on the site's thresholds hold, where it has any and the bundle has intents.
    ///
    /// # Errors
    /// The file at fault and what to do about it. Nothing of a bundle that fails is kept.
    pub fn open(bundle: &Path, trust: &Trust, site: Thresholds) -> Result<Self, OpenError> {
        let started = Instant::now();
        let mut verified = bundle::verify(bundle, trust)?;
        let verify = started.elapsed();

        let started = Instant::now();
        let kernel = Kernel::best();
        let vectors = Vector::read(&mut verified)?;
        let shared = Arc::new(load(&mut verified, kernel)?);
        let load = started.elapsed();

        let started = Instant::now();
        let model = ModelRef { name: shared.manifest.name.clone(), version: shared.manifest.version.clone() };
        let mut engine = Self { model, kernel, shared, startup: StartupTimes::default() };
        engine.self_test(&verified, &vectors)?;
        engine.override_thresholds(site)?;
        engine.startup = StartupTimes { verify, load, self_test: started.elapsed() };
        Ok(engine)
    }

    /// From now on the slots that have names resolve to one of them, or not at all. For an engine without workers.
    ///
    /// # Errors
    /// A slot that the bundle does not have, and those that it has.
    pub fn with_names(mut self, names: Names) -> Result<Self, String> {
        let slots = &self.shared.labels.slots;
        if let Some(unknown) = names.slots().find(|name| !slots.iter().any(|slot| slot == name)) {
            let message = format!("[{unknown}] is no slot of {}; it has", self.model.name);
            return Err(format!(
                "{message} {}",
                if slots.is_empty() { "none".to_owned() } else { slots.join(", ") }
            ));
        }
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.names = names;
        }
        Ok(self)
    }

    /// Which bundle answers.
    pub fn model(&self) -> &ModelRef {
        &self.model
    }

    /// What the bundle says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.shared.manifest
    }

    /// What the heads tell apart.
    pub fn labels(&self) -> &Labels {
        &self.shared.labels
    }

    /// That it can do all of this about an utterance; none: intent or slots.
    ///
    /// # Errors
    /// What it lacks, and what it has.
    pub fn check_tasks(&self, asked: &[Task]) -> Result<(), ParseError> {
        self.shared.wanted(asked).map(drop)
    }

    /// The kernel of our operators.
    pub fn kernel(&self) -> &'static str {
        self.kernel.name()
    }

    /// Every node of the running, optimised graphs: what runs in our kernel and what in tract's own code.
    pub fn operators(&self) -> Vec<Operator> {
        let Shared { encoder, heads, .. } = &*self.shared;
        [encoder].into_iter().chain(heads.models()).flat_map(Model::operators).collect()
    }

    /// How long opening took.
    pub fn startup(&self) -> &StartupTimes {
        &self.startup
    }

    /// A worker for one thread.
    ///
    /// # Errors
    /// When the runtime cannot start a graph.
    pub fn worker(&self) -> Result<Worker, WorkerError> {
        Worker::start(Arc::clone(&self.shared))
    }

    fn override_thresholds(&mut self, site: Thresholds) -> Result<(), OpenError> {
        let Some(intent) = self.shared.calibration.intent else { return Ok(()) };
        let calibration = intent.with(site).map_err(OpenError::Thresholds)?;
        // The self-test's worker is gone, so nobody else holds it.
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.calibration.intent = Some(calibration);
        }
        Ok(())
    }

    fn self_test(&self, verified: &Verified, vectors: &[(usize, Vector)]) -> Result<(), OpenError> {
        let failed = |line, message| OpenError::SelfTest { path: verified.path(Vector::FILE), line, message };
        let mut worker = self.worker().map_err(|e| failed(1, e.to_string()))?;
        for (line, vector) in vectors {
            selftest::check(&mut worker, vector).map_err(|message| failed(*line, message))?;
        }
        Ok(())
    }
}

const ENCODER: &str = "encoder.onnx";
const TOKENIZER: &str = "tokenizer.json";

/// Builds everything that threads share; the bytes of the files are let go on the way.
fn load(verified: &mut Verified, kernel: Kernel) -> Result<Shared, OpenError> {
    let labels = Labels::read(verified)?;
    let calibration = Calibration::read(verified)?;
    let max_tokens = verified.manifest.max_tokens;
    let json = verified.take(TOKENIZER)?;
    let tokenizer = Tokenizer::read(&json, max_tokens, labels.token_types)
        .map_err(|message| OpenError::Content { path: verified.path(TOKENIZER), message })?;
    drop(json);
    if verified.manifest.has(Task::Answers) && max_tokens < passages::LEAST_TOKENS {
        let message =
            format!("max_tokens is {max_tokens}; the task qa needs {} at least", passages::LEAST_TOKENS);
        return Err(OpenError::Manifest { path: verified.path("manifest.toml"), message });
    }

    let load_graph = |verified: &mut Verified, graph, file| {
        let bytes = verified.take(file)?;
        Model::load(graph, &bytes, Operators::Plugged(kernel))
            .map_err(|message| OpenError::Graph { path: verified.path(file), message })
    };
    let encoder = load_graph(verified, "encoder", ENCODER)?;
    if encoder.input_channels().is_some() {
        let message = "its input must be token ids, i64 [1, tokens]".to_owned();
        return Err(OpenError::Graph { path: verified.path(ENCODER), message });
    }
    if labels.token_types != TokenTypes::default() && !encoder.is_typed() {
        let message = format!("names token_types, which {ENCODER} does not take");
        return Err(OpenError::Content { path: verified.path(Labels::FILE), message });
    }
    let heads = Heads::load(verified, &encoder, &labels, load_graph)?;
    let bias = |tags: Option<bundle::TagsCalibration>| tags.map_or(0.0, |tags| tags.outside_bias);
    let slots = Decoder::new(&labels.slot_tags, bias(calibration.slots));
    let entities = Decoder::new(&labels.entity_tags, bias(calibration.entities));
    let manifest = verified.manifest.clone();
    let names = Names::default();
    Ok(Shared { manifest, labels, slots, entities, calibration, tokenizer, encoder, heads, names })
}
