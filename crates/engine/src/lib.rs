//! The engine of intentd: opens a bundle and turns utterances into intents and slots. It knows tract and tokenizers, no
//! network, no clock but for timings, and keeps no state between utterances: the same utterance gets the same answer in
//! any batch and on any thread.
//!
//! [`Engine::open`] goes through the house once:
//!
//! - `bundle`: verifies signature, size and checksum of every file before a parser sees a byte; labels, calibration.
//! - `tokenizer`: text to wordpieces, words and offsets.
//! - [`model`] with `ops`: the ONNX graphs in tract, our int8 operator in place of every quantised convolution.
//! - `selftest`: a bundle that does not answer as its author saw it is not opened.
//!
//! [`Worker::parse`] then goes: `tokenizer`, encoder, heads, `calibrate` for the intent, `decode` and `resolve` for the
//! slots.

#![forbid(unsafe_code)]

mod bundle;
mod calibrate;
mod decode;
mod error;
pub mod model;
mod ops;
mod resolve;
mod selftest;
pub mod tokenizer;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use intentd_core::{ModelRef, Task};
use intentd_kernels::Kernel;

use bundle::{Calibration, SelfTestLine, Verified};
use decode::Decoder;
use model::{Model, Operators};
use tokenizer::Tokenizer;
use worker::Shared;

pub use bundle::{FileEntry, Labels, Manifest, NoVersion, Thresholds, Trust, TrustedKey, Version};
pub use error::{OpenError, WorkerError};
pub use model::Operator;
pub use resolve::number;
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
    /// From then on the site's thresholds hold, where it has any.
    ///
    /// # Errors
    /// The file at fault and what to do about it. Nothing of a bundle that fails is kept.
    pub fn open(bundle: &Path, trust: &Trust, site: Thresholds) -> Result<Self, OpenError> {
        let started = Instant::now();
        let mut verified = bundle::verify(bundle, trust)?;
        let verify = started.elapsed();

        let started = Instant::now();
        let kernel = Kernel::best();
        let vectors = SelfTestLine::read(&mut verified)?;
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

    /// The kernel of our operators.
    pub fn kernel(&self) -> &'static str {
        self.kernel.name()
    }

    /// Every node of the running, optimised graphs: what runs in our kernel and what in tract's own code.
    pub fn operators(&self) -> Vec<Operator> {
        let Shared { encoder, intent, slots, .. } = &*self.shared;
        [Some(encoder), intent.as_ref(), slots.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(Model::operators)
            .collect()
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
        let calibration = self.shared.calibration.intent.with(site).map_err(OpenError::Thresholds)?;
        // The self-test's worker is gone, so nobody else holds it.
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.calibration.intent = calibration;
        }
        Ok(())
    }

    fn self_test(&self, verified: &Verified, vectors: &[SelfTestLine]) -> Result<(), OpenError> {
        let failed =
            |line, message| OpenError::SelfTest { path: verified.path(SelfTestLine::FILE), line, message };
        let mut worker = self.worker().map_err(|e| failed(1, e.to_string()))?;
        let temperature = self.shared.calibration.intent.temperature;
        for (index, vector) in vectors.iter().enumerate() {
            selftest::check(&mut worker, &self.shared.labels, temperature, vector)
                .map_err(|message| failed(index + 1, message))?;
        }
        Ok(())
    }
}

const ENCODER: &str = "encoder.onnx";
const TOKENIZER: &str = "tokenizer.json";
const LABELS: &str = "labels.json";

/// Builds everything that threads share; the bytes of the files are let go on the way.
fn load(verified: &mut Verified, kernel: Kernel) -> Result<Shared, OpenError> {
    let labels = Labels::read(verified)?;
    let calibration = Calibration::read(verified)?;
    let max_tokens = verified.manifest.max_tokens;
    let json = verified.take(TOKENIZER)?;
    let tokenizer = Tokenizer::read(&json, max_tokens)
        .map_err(|message| OpenError::Content { path: verified.path(TOKENIZER), message })?;
    drop(json);

    let encoder = load_graph(verified, "encoder", ENCODER, kernel)?;
    if encoder.input_channels().is_some() {
        let message = "its input must be token ids, i64 [1, tokens]".to_owned();
        return Err(OpenError::Graph { path: verified.path(ENCODER), message });
    }
    let tasks = verified.manifest.supported_tasks();
    let mut head = |task, graph, file, outputs| match tasks.contains(&task) {
        true => load_head(verified, &encoder, (graph, file), outputs, kernel).map(Some),
        false => Ok(None),
    };
    let intent = head(Task::Intent, "heads/intent", "heads/intent.onnx", labels.intent_outputs.len())?;
    let slots = head(Task::Slots, "heads/slots", "heads/slots.onnx", labels.tags.len())?;
    let manifest = verified.manifest.clone();
    let decoder = Decoder::new(&labels);
    Ok(Shared { manifest, labels, decoder, calibration, tokenizer, encoder, intent, slots })
}

fn load_head(
    verified: &mut Verified,
    encoder: &Model,
    (graph, file): (&'static str, &str),
    outputs: usize,
    kernel: Kernel,
) -> Result<Model, OpenError> {
    let head = load_graph(verified, graph, file, kernel)?;
    if head.input_channels() != Some(encoder.output_channels()) {
        let message =
            format!("its input is not what the encoder gives, {} channels", encoder.output_channels());
        return Err(OpenError::Graph { path: verified.path(file), message });
    }
    if head.output_channels() != outputs {
        let message = format!("names {outputs} outputs of {file}, which has {}", head.output_channels());
        return Err(OpenError::Content { path: verified.path(LABELS), message });
    }
    Ok(head)
}

fn load_graph(
    verified: &mut Verified,
    graph: &'static str,
    file: &str,
    kernel: Kernel,
) -> Result<Model, OpenError> {
    let bytes = verified.take(file)?;
    Model::load(graph, &bytes, Operators::Plugged(kernel))
        .map_err(|message| OpenError::Graph { path: verified.path(file), message })
}
