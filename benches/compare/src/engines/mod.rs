//! The engines behind one interface.

pub(crate) mod candle;
pub(crate) mod intentd;
pub(crate) mod rten;
pub(crate) mod tract;

use std::path::{Path, PathBuf};

/// An encoder in some engine.
pub(crate) trait Engine {
    /// Hidden states as the engine gives them.
    type Output;

    /// What multiplies, for the report.
    fn kernel(&self) -> String;

    /// One pass: what is timed.
    fn run(&mut self, batch: &Batch) -> Result<Self::Output, String>;

    /// `[tokens, channels]` of every sequence, end to end, without padding.
    fn hidden(&self, batch: &Batch, output: &Self::Output) -> Result<Vec<f32>, String>;
}

/// Sequences of a batch, end to end for engines that take them so, and as a rectangle for those that pad.
pub(crate) struct Batch {
    pub(crate) sequences: Vec<Vec<u32>>,
    /// `[sequences, longest]`.
    pub(crate) padded: Vec<i64>,
    /// 1 where `padded` is no padding; none where nothing is.
    pub(crate) mask: Option<Vec<i64>>,
    pub(crate) longest: usize,
}

const PADDING: i64 = 0;

impl Batch {
    pub(crate) fn new(sequences: Vec<Vec<u32>>) -> Self {
        let longest = sequences.iter().map(Vec::len).max().unwrap_or_default();
        let padded = rectangle(&sequences, longest, |&id| i64::from(id), PADDING);
        let is_ragged = sequences.iter().any(|sequence| sequence.len() < longest);
        let mask = is_ragged.then(|| rectangle(&sequences, longest, |_| 1, 0));
        Self { sequences, padded, mask, longest }
    }

    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.sequences.len(), self.longest]
    }

    /// Drops the padding of an output `[sequences, longest, channels]`.
    pub(crate) fn unpad(&self, output: &[f32]) -> Vec<f32> {
        let row = output.len() / self.sequences.len();
        let channels = row / self.longest;
        let rows = output.chunks_exact(row).zip(&self.sequences);
        rows.flat_map(|(row, sequence)| &row[..sequence.len() * channels]).copied().collect()
    }
}

fn rectangle(sequences: &[Vec<u32>], width: usize, value: impl Fn(&u32) -> i64, padding: i64) -> Vec<i64> {
    let rows = sequences.iter().flat_map(|sequence| {
        sequence.iter().map(&value).chain(std::iter::repeat_n(padding, width - sequence.len()))
    });
    rows.collect()
}

/// The file of the same form that takes a mask.
fn masked(model: &Path) -> PathBuf {
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    model.with_file_name(format!("{stem}-masked.onnx"))
}

/// For `map_err`.
fn text(error: impl std::fmt::Display) -> String {
    format!("{error:#}")
}
