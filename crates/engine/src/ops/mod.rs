//! Our operators inside tract, and how they get there.
//!
//! `recognise` reads an ONNX graph by data flow. A whole encoder becomes one [`EncoderOp`], a whole head one [`HeadOp`],
//! and then the graph is that one node. Of another graph every quantised convolution becomes part of a
//! [`QuantisedProducts`]; what is not recognised at all stays as it is and runs in tract's own operators: slower, not
//! wrong.

mod encoder;
mod head;
mod recognise;

use std::cell::RefCell;
use std::sync::Arc;

use intentd_kernels::{Activations, Kernel, Then, Weights};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

pub(crate) use encoder::EncoderOp;
pub(crate) use head::HeadOp;
pub(crate) use recognise::{Recognised, recognise, recognise_encoder, recognise_head};

/// The starts of the sequences of a batch, with the end of the last one behind them: increasing, from 0 to `tokens`.
fn starts_of(starts: &TValue, tokens: usize) -> TractResult<Vec<usize>> {
    let starts = starts.try_as_plain_ram()?;
    let starts: Vec<usize> = starts.as_slice::<i64>()?.iter().map(|&start| start as usize).collect();
    ensure!(
        starts.first() == Some(&0) && starts.last() == Some(&tokens) && starts.is_sorted(),
        "sequences start at {starts:?} among {tokens} tokens"
    );
    Ok(starts)
}

/// Another order of a table's values: `[rows, columns]` to `[columns, rows]`.
pub(crate) fn transpose(values: &[f32], columns: usize, out: &mut [f32]) {
    let rows = values.len() / columns.max(1);
    for (row, values) in values.chunks_exact(columns.max(1)).enumerate() {
        for (column, value) in values.iter().enumerate() {
            out[column * rows + row] = *value;
        }
    }
}

/// Products that share their quantised input. Weights are laid out once and shared by all threads.
#[derive(Clone, Debug)]
pub(crate) struct QuantisedProducts {
    kernel: Kernel,
    products: Arc<[Weights]>,
}

thread_local! {
    /// The integers of one input, and values with a token's channels side by side: written and read within one call, so
    /// one set of buffers serves all nodes of a thread.
    static SCRATCH: RefCell<(Activations, Vec<f32>)> = RefCell::default();
}

impl QuantisedProducts {
    pub(crate) fn new(kernel: Kernel, products: Vec<Weights>) -> Self {
        Self { kernel, products: products.into() }
    }

    pub(crate) fn kernel(&self) -> Kernel {
        self.kernel
    }
}

/// Equal only to itself: weights are never compared value by value.
impl PartialEq for QuantisedProducts {
    fn eq(&self, other: &Self) -> bool {
        self.kernel == other.kernel && Arc::ptr_eq(&self.products, &other.products)
    }
}

impl Eq for QuantisedProducts {}

impl Op for QuantisedProducts {
    fn name(&self) -> StaticName {
        "QuantisedProducts".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(self
            .products
            .iter()
            .map(|w| format!("{} groups of {} to {} outputs", w.groups(), w.depth(), w.outputs()))
            .collect())
    }

    op_as_typed_op!();
}

impl EvalOp for QuantisedProducts {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let input = args_1!(inputs);
        let &[1, channels, tokens] = input.shape() else {
            bail!("the input is {:?}, not one sequence of [1, channels, tokens]", input.shape());
        };
        let x = input.try_as_plain_ram()?;
        let x = x.as_slice::<f32>()?;
        SCRATCH.with_borrow_mut(|(activations, rows)| {
            rows.resize(x.len(), 0.0);
            transpose(x, tokens, rows);
            self.kernel.quantise(rows, channels, activations);
            self.products
                .iter()
                .map(|weights| {
                    let mut out = Tensor::zero::<f32>(&[1, weights.outputs(), tokens])?;
                    rows.resize(weights.outputs() * tokens, 0.0);
                    self.kernel.multiply(activations, weights, Then::Store, rows);
                    let mut values = out.try_as_plain_ram_mut()?;
                    transpose(rows, weights.outputs(), values.as_slice_mut::<f32>()?);
                    Ok(out.into_tvalue())
                })
                .collect()
        })
    }
}

impl TypedOp for QuantisedProducts {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = inputs else { bail!("one input, not {}", inputs.len()) };
        ensure!(input.rank() == 3, "the input must be [1, channels, tokens]");
        Ok(self
            .products
            .iter()
            .map(|weights| {
                let mut shape = input.shape.to_tvec();
                shape[1] = weights.outputs().to_dim();
                f32::fact(shape)
            })
            .collect())
    }

    as_op!();
}

/// The operator while tract still infers types and shapes.
impl Expansion for QuantisedProducts {
    fn name(&self) -> StaticName {
        Op::name(self)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.products.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, self.products.len())?;
        solver.equals(&inputs[0].datum_type, f32::datum_type())?;
        solver.equals(&inputs[0].rank, 3)?;
        for (weights, output) in self.products.iter().zip(outputs) {
            solver.equals(&inputs[0].shape[1], weights.inputs().to_dim())?;
            solver.equals(&output.datum_type, f32::datum_type())?;
            solver.equals(&output.rank, 3)?;
            solver.equals(&output.shape[0], &inputs[0].shape[0])?;
            solver.equals(&output.shape[1], weights.outputs().to_dim())?;
            solver.equals(&output.shape[2], &inputs[0].shape[2])?;
        }
        Ok(())
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, self.clone(), inputs)
    }
}
