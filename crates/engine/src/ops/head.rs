//! A head as one operator: from hidden states to the scores of every sequence, or of every token.

use std::cell::RefCell;
use std::sync::Arc;

use intentd_kernels::{Activations, Kernel, Then, Weights};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::starts_of;

/// One product with weights.
pub(crate) struct Head {
    /// Whether it reads the mean over a sequence's tokens instead of each token.
    pub(crate) of_mean: bool,
    pub(crate) weights: Weights,
}

thread_local! {
    static SCRATCH: RefCell<(Activations, Vec<f32>)> = RefCell::default();
}

impl Head {
    fn rows(&self, starts: &[usize]) -> usize {
        if self.of_mean { starts.len() - 1 } else { starts[starts.len() - 1] }
    }

    fn run(&self, kernel: Kernel, hidden: &[f32], starts: &[usize], scores: &mut [f32]) {
        let channels = self.weights.inputs();
        SCRATCH.with_borrow_mut(|(activations, means)| {
            let rows = if self.of_mean {
                means.clear();
                for sequence in starts.windows(2) {
                    mean(&hidden[sequence[0] * channels..sequence[1] * channels], channels, means);
                }
                means
            } else {
                hidden
            };
            kernel.quantise(rows, channels, activations);
            kernel.multiply(activations, &self.weights, Then::Store, scores);
        });
    }
}

/// Appends the mean of the rows, which are summed from the first on.
fn mean(rows: &[f32], channels: usize, means: &mut Vec<f32>) {
    let start = means.len();
    means.resize(start + channels, 0.0);
    let sums = &mut means[start..];
    for row in rows.chunks_exact(channels) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let count = (rows.len() / channels) as f32;
    sums.iter_mut().for_each(|sum| *sum /= count);
}

/// A head inside tract. Inputs: hidden states, f32 `[tokens, channels]`, and the starts of the sequences as the encoder
/// takes them. Output: scores, f32 `[sequences or tokens, outputs]`.
#[derive(Clone)]
pub(crate) struct HeadOp {
    pub(crate) kernel: Kernel,
    pub(crate) head: Arc<Head>,
}

impl std::fmt::Debug for HeadOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HeadOp({})", self.kernel.name())
    }
}

/// Equal only to itself: weights are never compared value by value.
impl PartialEq for HeadOp {
    fn eq(&self, other: &Self) -> bool {
        self.kernel == other.kernel && Arc::ptr_eq(&self.head, &other.head)
    }
}

impl Eq for HeadOp {}

impl Op for HeadOp {
    fn name(&self) -> StaticName {
        "Head".into()
    }

    op_as_typed_op!();
}

impl EvalOp for HeadOp {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (hidden, starts) = args_2!(inputs);
        let &[tokens, channels] = hidden.shape() else {
            bail!("{:?} is not [tokens, channels]", hidden.shape())
        };
        ensure!(channels == self.head.weights.inputs(), "{channels} channels");
        let starts = starts_of(&starts, tokens)?;
        let hidden = hidden.try_as_plain_ram()?;
        let mut scores = Tensor::zero::<f32>(&[self.head.rows(&starts), self.head.weights.outputs()])?;
        let mut values = scores.try_as_plain_ram_mut()?;
        self.head.run(self.kernel, hidden.as_slice::<f32>()?, &starts, values.as_slice_mut::<f32>()?);
        Ok(tvec!(scores.into_tvalue()))
    }
}

impl TypedOp for HeadOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [hidden, starts] = inputs else { bail!("two inputs, not {}", inputs.len()) };
        let rows = if self.head.of_mean { starts.shape[0].clone() - 1 } else { hidden.shape[0].clone() };
        Ok(tvec!(f32::fact([rows, self.head.weights.outputs().to_dim()])))
    }

    as_op!();
}
