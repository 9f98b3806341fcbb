//! The whole encoder as one operator: from token ids to the last hidden states, for a batch of sequences that lie end to
//! end. No padding: attention keeps to each sequence, every other step to each token, so a batch gives bit for bit what
//! each sequence gives alone.

use std::cell::RefCell;
use std::sync::Arc;

use intentd_kernels::{Activations, Attention, Kernel, Norm, Then, Weights};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::starts_of;

/// Everything that was learned. Laid out once and shared by all threads.
pub(crate) struct Encoder {
    pub(crate) embedding: Embedding,
    pub(crate) layers: Vec<Layer>,
    pub(crate) heads: usize,
}

/// Word rows in 8 bits with one scale each, plus a row for each position and one for the token's type, then layer norm.
pub(crate) struct Embedding {
    /// `[wordpieces, channels]`.
    pub(crate) words: Vec<i8>,
    /// One per wordpiece.
    pub(crate) scales: Vec<f32>,
    /// `[positions, channels]`.
    pub(crate) positions: Vec<f32>,
    /// `[types, channels]`; none where tokens have no types.
    pub(crate) types: Option<Vec<f32>>,
    pub(crate) norm: Norm,
}

/// One block: attention and feed-forward, each with its residual sum and layer norm behind it.
pub(crate) struct Layer {
    /// Query, key and value.
    pub(crate) projections: [Weights; 3],
    pub(crate) output: Weights,
    pub(crate) attention_norm: Norm,
    pub(crate) expand: Weights,
    pub(crate) contract: Weights,
    pub(crate) output_norm: Norm,
}

/// Sequences are taken through all layers in parts of about this many tokens: values stay in the second cache, and each
/// load of weights from the third one serves many.
const PART_TOKENS: usize = 48;

/// Tokens that go through a feed-forward pair together: its wide values stay in the second cache.
const FEED_TOKENS: usize = 48;

/// Memory of one thread, reused from batch to batch.
#[derive(Default)]
struct Scratch {
    activations: Activations,
    attention: Attention,
    projections: [Vec<f32>; 3],
    context: Vec<f32>,
    sums: Vec<f32>,
    wide: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Encoder {
    pub(crate) fn channels(&self) -> usize {
        self.embedding.norm.channels()
    }

    /// Whether each token has a type beside its id.
    pub(crate) fn has_types(&self) -> bool {
        self.embedding.types.is_some()
    }

    /// Fills `hidden`, `[tokens, channels]`, from the ids and types of the sequences between `starts`.
    fn run(
        &self,
        kernel: Kernel,
        (ids, types): (&[i64], &[i64]),
        starts: &[usize],
        hidden: &mut [f32],
    ) -> TractResult<()> {
        let channels = self.channels();
        for sequence in starts.windows(2) {
            let tokens = sequence[0]..sequence[1];
            let rows = &mut hidden[tokens.start * channels..tokens.end * channels];
            self.embedding.look_up(&ids[tokens], rows)?;
        }
        self.embedding.add_types(types, hidden)?;
        kernel.normalise(&self.embedding.norm, hidden);
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.attention.reshape(self.heads, channels);
            for part in parts(starts) {
                let rows = part[0] * channels..part[part.len() - 1] * channels;
                for layer in &self.layers {
                    layer.run(kernel, part, channels, &mut hidden[rows.clone()], scratch);
                }
            }
        });
        Ok(())
    }
}

/// Neighbouring sequences, each part with the start behind its last one.
fn parts(starts: &[usize]) -> impl Iterator<Item = &[usize]> {
    let mut from = 0;
    std::iter::from_fn(move || {
        if from + 1 >= starts.len() {
            return None;
        }
        let full = |&end: &usize| starts[end] - starts[from] > PART_TOKENS;
        let to = (from + 2..starts.len()).find(full).map_or(starts.len() - 1, |end| end - 1);
        let part = &starts[from..=to];
        from = to;
        Some(part)
    })
}

impl Embedding {
    fn look_up(&self, ids: &[i64], rows: &mut [f32]) -> TractResult<()> {
        let channels = self.norm.channels();
        let positions = self.positions.chunks_exact(channels);
        ensure!(
            ids.len() <= positions.len(),
            "{} tokens; the encoder has {} positions",
            ids.len(),
            positions.len()
        );
        for ((id, row), position) in ids.iter().zip(rows.chunks_exact_mut(channels)).zip(positions) {
            let index = usize::try_from(*id).ok().filter(|&index| index < self.scales.len());
            let Some(index) = index else { bail!("no wordpiece has the id {id}") };
            let word = &self.words[index * channels..(index + 1) * channels];
            for ((value, word), position) in row.iter_mut().zip(word).zip(position) {
                *value = f32::from(*word) * self.scales[index] + position;
            }
        }
        Ok(())
    }

    fn add_types(&self, types: &[i64], rows: &mut [f32]) -> TractResult<()> {
        let Some(table) = &self.types else { return Ok(()) };
        let channels = self.norm.channels();
        for (kind, row) in types.iter().zip(rows.chunks_exact_mut(channels)) {
            let index = usize::try_from(*kind).ok();
            let added = index.and_then(|index| table.chunks_exact(channels).nth(index));
            let Some(added) = added else { bail!("no token has the type {kind}") };
            for (value, added) in row.iter_mut().zip(added) {
                *value += added;
            }
        }
        Ok(())
    }
}

impl Layer {
    /// `x`, `[tokens, channels]`, holds the sequences between `starts` and nothing else.
    fn run(&self, kernel: Kernel, starts: &[usize], channels: usize, x: &mut [f32], scratch: &mut Scratch) {
        let Scratch { activations, attention, projections, context, sums, wide } = scratch;
        kernel.quantise(x, channels, activations);
        for (weights, values) in self.projections.iter().zip(projections.iter_mut()) {
            values.resize(x.len(), 0.0);
            kernel.multiply(activations, weights, Then::Store, values);
        }
        context.resize(x.len(), 0.0);
        for sequence in starts.windows(2) {
            let tokens = sequence[0] - starts[0]..sequence[1] - starts[0];
            let projections = [projections[0].as_slice(), &projections[1], &projections[2]];
            kernel.attend(attention, tokens, projections, context);
        }
        kernel.quantise(context, channels, activations);
        sums.resize(x.len(), 0.0);
        kernel.multiply(activations, &self.output, Then::Add(x), sums);
        kernel.normalise(&self.attention_norm, sums);

        let part = FEED_TOKENS * channels;
        for (rows, out) in sums.chunks(part).zip(x.chunks_mut(part)) {
            kernel.quantise(rows, channels, activations);
            wide.resize(rows.len() / channels * self.expand.outputs(), 0.0);
            kernel.multiply(activations, &self.expand, Then::Gelu, wide);
            kernel.quantise(wide, self.expand.outputs(), activations);
            kernel.multiply(activations, &self.contract, Then::Add(rows), out);
            kernel.normalise(&self.output_norm, out);
        }
    }
}

/// The encoder inside tract. Inputs, all i64: token ids `[tokens]`, their types `[tokens]` where it has types, and the
/// starts of the sequences with the end of the last behind them `[sequences + 1]`. Output: hidden states, f32
/// `[tokens, channels]`.
#[derive(Clone)]
pub(crate) struct EncoderOp {
    pub(crate) kernel: Kernel,
    pub(crate) encoder: Arc<Encoder>,
}

impl std::fmt::Debug for EncoderOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EncoderOp({})", self.kernel.name())
    }
}

/// Equal only to itself: weights are never compared value by value.
impl PartialEq for EncoderOp {
    fn eq(&self, other: &Self) -> bool {
        self.kernel == other.kernel && Arc::ptr_eq(&self.encoder, &other.encoder)
    }
}

impl Eq for EncoderOp {}

impl Op for EncoderOp {
    fn name(&self) -> StaticName {
        "Encoder".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        let encoder = &self.encoder;
        Ok(vec![format!(
            "{} layers, {} channels, {} heads",
            encoder.layers.len(),
            encoder.channels(),
            encoder.heads
        )])
    }

    op_as_typed_op!();
}

impl EvalOp for EncoderOp {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (Some(ids), Some(starts)) = (inputs.first(), inputs.last()) else { bail!("no inputs") };
        let ids = ids.try_as_plain_ram()?;
        let ids = ids.as_slice::<i64>()?;
        let types = inputs[1].try_as_plain_ram()?;
        let types: &[i64] = if self.encoder.has_types() { types.as_slice()? } else { &[] };
        ensure!(
            types.len() == ids.len() || !self.encoder.has_types(),
            "{} types of {} tokens",
            types.len(),
            ids.len()
        );
        let starts = starts_of(starts, ids.len())?;
        let mut hidden = Tensor::zero::<f32>(&[ids.len(), self.encoder.channels()])?;
        let mut values = hidden.try_as_plain_ram_mut()?;
        self.encoder.run(self.kernel, (ids, types), &starts, values.as_slice_mut::<f32>()?)?;
        Ok(tvec!(hidden.into_tvalue()))
    }
}

impl TypedOp for EncoderOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let (Some(ids), 2 | 3) = (inputs.first(), inputs.len()) else { bail!("{} inputs", inputs.len()) };
        let tokens = ids.shape[0].clone();
        Ok(tvec!(f32::fact([tokens, self.encoder.channels().to_dim()])))
    }

    as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_whole_sequences() {
        let split = |starts: &[usize]| parts(starts).map(<[usize]>::to_vec).collect::<Vec<_>>();
        assert_eq!(split(&[0]), Vec::<Vec<usize>>::new());
        assert_eq!(split(&[0, 12]), [[0, 12]]);
        assert_eq!(
            split(&[0, 20, 45, 50, 300, 310]),
            [vec![0, 20, 45], vec![45, 50], vec![50, 300], vec![300, 310]]
        );
    }
}
