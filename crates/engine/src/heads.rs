//! The heads of a bundle: which it has, and what each gives of a batch. All of them read the hidden states of one pass
//! through the encoder.

use std::collections::BTreeMap;
use std::time::Duration;

use intentd_core::Task;

use crate::WorkerError;
use crate::bundle::{Labels, Verified};
use crate::error::OpenError;
use crate::model::{Model, Rows, Running};

/// Every head: its graph's name and file. An embedding is made of the hidden states themselves.
const HEADS: [(Task, &str, &str); 5] = [
    (Task::Intent, "heads/intent", "heads/intent.onnx"),
    (Task::Slots, "heads/slots", "heads/slots.onnx"),
    (Task::Sentiment, "heads/sentiment", "heads/sentiment.onnx"),
    (Task::Entities, "heads/entities", "heads/entities.onnx"),
    (Task::Answers, "heads/qa", "heads/qa.onnx"),
];

/// The graphs of the heads, shared by all threads.
pub(crate) struct Heads(BTreeMap<Task, Model>);

/// The heads on one thread.
pub(crate) struct RunningHeads(BTreeMap<Task, Running>);

/// What the model says of a batch, sequence by sequence.
pub(crate) struct Scores {
    /// Of the encoder; none for an empty batch.
    pub(crate) hidden: Option<Rows>,
    pub(crate) heads: BTreeMap<Task, Rows>,
    pub(crate) inference: Duration,
}

impl Heads {
    /// Loads those that the bundle's tasks need.
    pub(crate) fn load(
        verified: &mut Verified,
        encoder: &Model,
        labels: &Labels,
        mut graph: impl FnMut(&mut Verified, &'static str, &'static str) -> Result<Model, OpenError>,
    ) -> Result<Self, OpenError> {
        let mut heads = BTreeMap::new();
        for (task, name, file) in HEADS {
            if !verified.manifest.has(task) {
                continue;
            }
            let head = graph(verified, name, file)?;
            if head.input_channels() != Some(encoder.output_channels()) {
                let message = format!(
                    "its input is not what the encoder gives, {} channels",
                    encoder.output_channels()
                );
                return Err(OpenError::Graph { path: verified.path(file), message });
            }
            let outputs = labels.outputs(task);
            if head.output_channels() != outputs {
                let message =
                    format!("names {outputs} outputs of {file}, which has {}", head.output_channels());
                return Err(OpenError::Content { path: verified.path(Labels::FILE), message });
            }
            heads.insert(task, head);
        }
        Ok(Self(heads))
    }

    pub(crate) fn models(&self) -> impl Iterator<Item = &Model> {
        self.0.values()
    }

    pub(crate) fn start(&self) -> Result<RunningHeads, WorkerError> {
        let started = self.0.iter().map(|(&task, head)| Ok((task, head.start()?)));
        started.collect::<Result<_, _>>().map(RunningHeads)
    }
}

impl RunningHeads {
    /// Scores of those heads that somebody wants.
    pub(crate) fn score(
        &mut self,
        hidden: &Rows,
        wanted: impl Fn(Task) -> bool,
    ) -> Result<BTreeMap<Task, Rows>, String> {
        let asked = self.0.iter_mut().filter(|(task, _)| wanted(**task));
        asked.map(|(&task, head)| Ok((task, head.score(hidden)?))).collect()
    }
}
