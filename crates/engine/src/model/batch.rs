//! What goes into a graph and what comes out: the sequences of a batch lie end to end.

use tract_onnx::prelude::*;

/// What an encoder reads: the wordpieces of one text, or of two.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// One for each token.
    pub ids: &'a [u32],
    /// One for each token, for an encoder that knows types; none: all are of type 0.
    pub types: &'a [u32],
}

impl<'a> Sequence<'a> {
    /// What its tokens give to an input of the encoder: ids first, then types.
    pub(super) fn values(self, input: usize) -> impl Iterator<Item = u32> {
        self.ids.iter().enumerate().map(move |(token, &id)| match input {
            0 => id,
            _ => self.types.get(token).copied().unwrap_or(0),
        })
    }

    /// Tokens of type 0.
    pub fn plain(ids: &'a [u32]) -> Self {
        Self { ids, types: &[] }
    }
}

/// f32 values of every sequence of a batch: rows of equal width, end to end.
#[derive(Clone, Debug)]
pub struct Rows {
    /// `[rows, width]`.
    pub(super) values: TValue,
    pub(super) width: usize,
    /// The first row of each sequence, and the end.
    pub(super) starts: Vec<usize>,
}

impl Rows {
    /// Values of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.starts.len() - 1
    }

    /// The rows of one sequence.
    pub fn of(&self, sequence: usize) -> &[f32] {
        &plain(&self.values)[self.starts[sequence] * self.width..self.starts[sequence + 1] * self.width]
    }
}

pub(super) fn plain(values: &TValue) -> &[f32] {
    values.as_plain_ram().and_then(|view| view.as_slice().ok()).unwrap_or_default()
}

/// Where sequences of these lengths start when they lie end to end, and where the last one ends.
pub(super) fn starts(lengths: impl Iterator<Item = usize>) -> Vec<usize> {
    let ends = lengths.scan(0, |end, length| {
        *end += length;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}
