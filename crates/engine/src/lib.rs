//! The engine.

#![forbid(unsafe_code)]

mod bundle;
mod error;

use std::path::Path;
use std::time::{Duration, Instant};

use intentd_core::{ModelRef, ParseError, Understanding, Utterance};

pub use bundle::{FileEntry, Labels, Manifest};
pub use error::{OpenError, WorkerError};

/// A bundle in memory, ready to understand. Shared by all threads; each makes its own [`Worker`].
pub struct Engine {
    model: ModelRef,
    manifest: Manifest,
    labels: Labels,
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

/// A node of a running graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// `encoder`, or the head such as `heads/intent`.
    pub graph: &'static str,
    /// Name of the node.
    pub node: String,
    /// Name of the operator.
    pub operator: String,
    /// Our kernel; none where the runtime's own code runs.
    pub kernel: Option<&'static str>,
    /// Type of the numbers that it computes with, such as `int8` or `f32`.
    pub precision: String,
    /// Shapes of the outputs.
    pub shape: String,
}

/// One thread's state: graphs and scratch memory.
pub struct Worker {}

impl Engine {
    /// Opens a bundle: verifies, loads, tests.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let start = Instant::now();
        let mut verified = bundle::verify(folder)?;
        let labels = Labels::read(&mut verified)?;
        let manifest = verified.manifest;
        Ok(Self {
            model: ModelRef { name: manifest.name.clone(), version: manifest.version.clone() },
            manifest,
            labels,
            startup: StartupTimes { verify: start.elapsed(), ..StartupTimes::default() },
        })
    }

    /// Which bundle answers.
    pub fn model(&self) -> &ModelRef {
        &self.model
    }

    /// What the bundle says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the heads tell apart.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The kernel of our operators.
    pub fn kernel(&self) -> &'static str {
        "portable"
    }

    /// Every node of the running graphs.
    pub fn operators(&self) -> Vec<Operator> {
        Vec::new()
    }

    /// How long opening took.
    pub fn startup(&self) -> &StartupTimes {
        &self.startup
    }

    /// A worker for one thread.
    pub fn worker(&self) -> Result<Worker, WorkerError> {
        Ok(Worker {})
    }
}

impl Worker {
    /// Understands utterances.
    pub fn parse(&mut self, utterances: &[&Utterance]) -> Vec<Result<Understanding, ParseError>> {
        utterances.iter().map(|_| Err(ParseError::Internal("not ready".to_owned()))).collect()
    }
}
