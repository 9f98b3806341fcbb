//! `selftest.jsonl`: what the bundle's author got, a vector a line.

use intentd_core::Task;
use serde::Deserialize;
use serde_json::Value;

use super::manifest::Manifest;
use super::verify::Verified;
use crate::OpenError;

/// One vector of the self-test.
#[derive(Clone, Debug)]
pub(crate) enum Vector {
    Text(TextVector),
    Question(QuestionVector),
}

/// A text, and what each of the bundle's tasks says of it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TextVector {
    pub(crate) text: String,
    pub(crate) input_ids: Vec<u32>,
    /// Of an encoder with token types.
    pub(crate) segment_ids: Option<Vec<u32>>,
    /// Probabilities of all outputs of the intent head, in their order.
    pub(crate) intent_scores: Option<Vec<f32>>,
    pub(crate) outcome: Option<String>,
    pub(crate) intent: Option<String>,
    pub(crate) slots: Option<Vec<VectorSpan>>,
    pub(crate) sentiment: Option<String>,
    /// Probabilities of all outputs of the sentiment head, in their order.
    pub(crate) sentiment_scores: Option<Vec<f32>>,
    pub(crate) entities: Option<Vec<VectorSpan>>,
    pub(crate) embedding: Option<Vec<f32>>,
}

/// A slot or entity of a text; in code points.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct VectorSpan {
    #[serde(alias = "type")]
    pub(crate) name: String,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// A question, how it is read, and its answer.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct QuestionVector {
    pub(crate) question: String,
    pub(crate) passages: Vec<String>,
    pub(crate) windows: Vec<VectorWindow>,
    pub(crate) answerable: bool,
    pub(crate) score: f32,
    /// The place of the answer, in code points of its passage; read where there is one.
    pub(crate) passage: Option<usize>,
    pub(crate) start: Option<u32>,
    pub(crate) end: Option<u32>,
}

/// What the encoder reads at once.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct VectorWindow {
    pub(crate) input_ids: Vec<u32>,
    pub(crate) segment_ids: Option<Vec<u32>>,
}

impl Vector {
    /// File of the vectors.
    pub(crate) const FILE: &str = "selftest.jsonl";

    /// Every line, with its number from 1.
    pub(crate) fn read(bundle: &mut Verified) -> Result<Vec<(usize, Self)>, OpenError> {
        let bytes = bundle.take(Self::FILE)?;
        let wrong = |message| OpenError::Content { path: bundle.path(Self::FILE), message };
        let mut vectors = Vec::new();
        for (number, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let vector = Self::from_line(line).map_err(|error| wrong(format!("line {number}: {error}")))?;
            vectors.push((number, vector));
        }
        Self::cover(&vectors, &bundle.manifest).map_err(wrong)?;
        Ok(vectors)
    }

    fn from_line(line: &[u8]) -> serde_json::Result<Self> {
        let value: Value = serde_json::from_slice(line)?;
        match value.get("question") {
            Some(_) => serde_json::from_value(value).map(Self::Question),
            None => serde_json::from_value(value).map(Self::Text),
        }
    }

    /// An untested bundle is not started.
    fn cover(vectors: &[(usize, Self)], manifest: &Manifest) -> Result<(), String> {
        let questions = vectors.iter().any(|(_, vector)| matches!(vector, Self::Question(_)));
        let texts = vectors.iter().any(|(_, vector)| matches!(vector, Self::Text(_)));
        let asks = manifest.has(Task::Answers);
        let reads = manifest.supported_tasks().iter().any(|&task| task != Task::Answers);
        match (reads && !texts, asks && !questions, questions && !asks) {
            (true, ..) => Err("holds no vector of a text; an untested bundle is not started".to_owned()),
            (_, true, _) => {
                Err("holds no vector of a question; an untested bundle is not started".to_owned())
            }
            (.., true) => Err("holds a question, but the bundle has no task qa".to_owned()),
            _ => Ok(()),
        }
    }
}
