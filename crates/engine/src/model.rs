//! A graph of the bundle as tract runs it. An encoder or a head that is recognised as a whole is one node of ours, which
//! takes a batch of sequences end to end; any other graph runs as it is written, one sequence after another. The plain
//! tract plan of the same file stays reachable: it is the oracle of the tests.

mod batch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use intentd_kernels::Kernel;
use tract_onnx::pb::{GraphProto, ModelProto, ValueInfoProto, tensor_proto, type_proto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::unimpl::UnimplementedOp;

use crate::WorkerError;
use crate::ops::{
    EncoderOp, HeadOp, QuantisedProducts, Recognised, recognise, recognise_encoder, recognise_head, transpose,
};

pub use batch::{Rows, Sequence};
use batch::{plain, starts};

/// Who computes the quantised convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operators {
    /// Our operator, with this kernel.
    Plugged(Kernel),
    /// tract's own.
    Stock,
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
    /// Our kernel; none where tract's own code runs.
    pub kernel: Option<&'static str>,
    /// Type of the numbers that it computes with, such as `int8` or `f32`.
    pub precision: String,
    /// Shapes of the outputs.
    pub shape: String,
}

/// A graph ready to run on any thread.
#[derive(Clone, Debug)]
pub struct Model {
    graph: &'static str,
    plan: Arc<TypedRunnableModel>,
    form: Form,
    /// Whether each token has a type beside its id.
    typed: bool,
    /// Channels of the f32 input and output; the encoder's input has none.
    channels: (Option<usize>, usize),
}

/// What a plan takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A batch end to end, with a second input that says where its sequences start; rows last.
    Batch,
    /// One sequence, `[1, tokens]` or `[1, channels, tokens]`, as the file has it.
    Single,
}

/// A graph on one thread.
#[derive(Debug)]
pub struct Running {
    state: TypedSimpleState,
    form: Form,
    typed: bool,
    outputs: usize,
}

impl Model {
    /// Builds a graph from verified bytes. tract panics on some malformed graphs: those panics are errors here too.
    ///
    /// # Errors
    /// What is not understood, for the operator to read.
    pub fn load(graph: &'static str, bytes: &[u8], operators: Operators) -> Result<Self, String> {
        let read = || tract_onnx::onnx().proto_model_for_read(&mut &*bytes);
        let build =
            || read().and_then(|proto| Self::build(graph, proto, operators)).map_err(|e| format!("{e:#}"));
        catch_unwind(AssertUnwindSafe(build)).unwrap_or_else(|panic| Err(panic_message(&*panic)))
    }

    /// Channels of the output.
    pub fn output_channels(&self) -> usize {
        self.channels.1
    }

    /// Channels of the input; none for token ids.
    pub fn input_channels(&self) -> Option<usize> {
        self.channels.0
    }

    /// Whether it is an encoder whose tokens have types.
    pub fn is_typed(&self) -> bool {
        self.typed
    }

    /// Every node of the optimised graph but constants.
    pub fn operators(&self) -> Vec<Operator> {
        let model = self.plan.model();
        let nodes = self.plan.order_without_consts().iter().map(|&id| model.node(id));
        nodes.map(|node| self.describe(node)).collect()
    }

    /// A state for one thread.
    pub fn start(&self) -> Result<Running, WorkerError> {
        let state = self.plan.spawn();
        let state = state.map_err(|e| WorkerError { graph: self.graph, message: format!("{e:#}") })?;
        Ok(Running { state, form: self.form, typed: self.typed, outputs: self.channels.1 })
    }

    fn build(graph: &'static str, mut proto: ModelProto, operators: Operators) -> TractResult<Self> {
        if let (Operators::Plugged(kernel), Some(graph_proto)) = (operators, &proto.graph) {
            match Self::whole(graph, graph_proto, kernel) {
                Ok(model) => return model,
                Err(reason) => {
                    tracing::warn!(
                        graph,
                        reason,
                        "not recognised as a whole: it runs node by node, several times slower"
                    );
                }
            }
        }
        let recognised = match operators {
            Operators::Plugged(_) => proto.graph.as_mut().map(recognise).unwrap_or_default(),
            Operators::Stock => Recognised::default(),
        };
        let mut model = tract_onnx::onnx().model_for_proto_model(&proto)?;
        drop(proto);
        if let Operators::Plugged(kernel) = operators {
            report(graph, &recognised);
            plug(&mut model, recognised, kernel)?;
        }
        let model = model.into_optimized()?;
        let channels = interface(&model)?;
        let typed = model.input_outlets()?.len() > 1;
        Ok(Self { graph, plan: model.into_runnable()?, form: Form::Single, typed, channels })
    }

    /// The graph as one node of ours, or why it is not one.
    fn whole(graph: &'static str, proto: &GraphProto, kernel: Kernel) -> Result<TractResult<Self>, String> {
        let takes_ids = proto.input.first().is_some_and(takes_integers);
        let mut model = TypedModel::default();
        let rows = model.symbols.sym("tokens").to_dim();
        let sequences = model.symbols.sym("sequences").to_dim();
        let mut build = |op: Box<dyn TypedOp>, inputs: &[TypedFact], channels| {
            let mut outlets = tvec![];
            for (index, input) in inputs.iter().enumerate() {
                outlets.push(model.add_source(format!("input{index}"), input.clone())?);
            }
            outlets.push(model.add_source("starts", i64::fact([sequences.clone() + 1]))?);
            let outputs = model.wire_node(graph, op, &outlets)?;
            model.select_output_outlets(&outputs)?;
            let (plan, typed) = (std::mem::take(&mut model).into_runnable()?, inputs.len() > 1);
            Ok(Self { graph, plan, form: Form::Batch, typed, channels })
        };
        if takes_ids {
            let encoder = Arc::new(recognise_encoder(proto)?);
            let channels = (None, encoder.channels());
            let tokens = vec![i64::fact([rows]); 1 + usize::from(encoder.has_types())];
            Ok(build(Box::new(EncoderOp { kernel, encoder }), &tokens, channels))
        } else {
            let head = Arc::new(recognise_head(proto)?);
            let inputs = head.weights.inputs();
            let channels = (Some(inputs), head.weights.outputs());
            Ok(build(Box::new(HeadOp { kernel, head }), &[f32::fact([rows, inputs.to_dim()])], channels))
        }
    }

    fn describe(&self, node: &TypedNode) -> Operator {
        let products = node.op_as::<QuantisedProducts>().map(QuantisedProducts::kernel);
        let encoder = node.op_as::<EncoderOp>().map(|op| op.kernel);
        let head = node.op_as::<HeadOp>().map(|op| op.kernel);
        let ours = products.or(encoder).or(head);
        let shapes: Vec<String> = node
            .outputs
            .iter()
            .map(|output| output.fact.shape.iter().map(|dim| dim.to_string()).collect::<Vec<_>>().join(","))
            .collect();
        let output_type = node.outputs.first().map(|output| output.fact.datum_type);
        // Ours gives f32, but multiplies in 8 bits.
        let precision = match (ours, output_type) {
            (Some(_), _) => "int8".to_owned(),
            (None, Some(output)) => format!("{output:?}").to_lowercase(),
            (None, None) => "none".to_owned(),
        };
        Operator {
            graph: self.graph,
            node: node.name.clone(),
            operator: node.op.name().into_owned(),
            kernel: ours.map(Kernel::name),
            precision,
            shape: shapes.join(" "),
        }
    }
}

impl Running {
    /// Runs the encoder on each sequence.
    pub fn encode(&mut self, sequences: &[Sequence<'_>]) -> Result<Rows, String> {
        let starts = starts(sequences.iter().map(|sequence| sequence.ids.len()));
        let tokens = usize::from(self.typed) + 1;
        let all = |input: usize| -> Vec<i64> {
            sequences.iter().flat_map(|sequence| sequence.values(input)).map(i64::from).collect()
        };
        let inputs: Vec<Vec<i64>> = (0..tokens).map(all).collect();
        match self.form {
            Form::Batch => {
                let values = inputs.iter().map(|values| tensor1(values).into_tvalue());
                let values = self.run(values.chain([integers(&starts)]).collect())?;
                Ok(Rows { values, width: self.outputs, starts })
            }
            Form::Single => {
                let each = starts.windows(2).map(|sequence| {
                    let part = |values: &Vec<i64>| {
                        let values = &values[sequence[0]..sequence[1]];
                        Tensor::from_shape(&[1, values.len()], values).map(Tensor::into_tvalue)
                    };
                    inputs.iter().map(part).collect::<TractResult<TVec<_>>>().map_err(|e| format!("{e:#}"))
                });
                self.one_by_one(each)
            }
        }
    }

    /// Runs a head on the hidden states of a batch.
    pub fn score(&mut self, hidden: &Rows) -> Result<Rows, String> {
        match self.form {
            Form::Batch => {
                let values = self.run(tvec!(hidden.values.clone(), integers(&hidden.starts)))?;
                // Either a row for each token or one for each sequence.
                let per_token = values.shape().first() == hidden.values.shape().first();
                let starts =
                    if per_token { hidden.starts.clone() } else { (0..=hidden.sequences()).collect() };
                Ok(Rows { values, width: self.outputs, starts })
            }
            Form::Single => {
                let each = (0..hidden.sequences()).map(|sequence| {
                    let rows = hidden.of(sequence);
                    let (tokens, channels) = (rows.len() / hidden.width, hidden.width);
                    let mut values = vec![0.0; rows.len()];
                    transpose(rows, channels, &mut values);
                    let input = Tensor::from_shape(&[1, channels, tokens], &values);
                    input.map(|input| tvec!(input.into_tvalue())).map_err(|e| format!("{e:#}"))
                });
                self.one_by_one(each)
            }
        }
    }

    /// Each input by itself; the outputs `[1, width, rows]` come together with rows first.
    fn one_by_one(
        &mut self,
        inputs: impl Iterator<Item = Result<TVec<TValue>, String>>,
    ) -> Result<Rows, String> {
        let width = self.outputs;
        let (mut all, mut lengths) = (Vec::new(), Vec::new());
        for inputs in inputs {
            let output = self.run(inputs?)?;
            let values = plain(&output);
            let start = all.len();
            all.resize(start + values.len(), 0.0);
            transpose(values, values.len() / width, &mut all[start..]);
            lengths.push(values.len() / width);
        }
        let values = Tensor::from_shape(&[all.len() / width, width], &all).map_err(|e| format!("{e:#}"))?;
        Ok(Rows { values: values.into_tvalue(), width, starts: starts(lengths.into_iter()) })
    }

    fn run(&mut self, inputs: TVec<TValue>) -> Result<TValue, String> {
        let mut outputs = self.state.run(inputs).map_err(|e| format!("{e:#}"))?;
        let values = outputs.remove(0);
        match plain(&values) {
            [] => Err("the graph gave no values".to_owned()),
            all if all.iter().all(|value| value.is_finite()) => Ok(values),
            _ => Err("the graph gave a value that is no number".to_owned()),
        }
    }
}

fn integers(values: &[usize]) -> TValue {
    tensor1(&values.iter().map(|&value| value as i64).collect::<Vec<i64>>()).into_tvalue()
}

fn takes_integers(input: &ValueInfoProto) -> bool {
    let tensor = input.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let integers = tensor_proto::DataType::Int64 as i32;
    matches!(tensor, Some(type_proto::Value::TensorType(tensor)) if tensor.elem_type == integers)
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "panicked without a message".to_owned())
}

fn report(graph: &str, recognised: &Recognised) {
    if recognised.placeholders.is_empty() && recognised.left.is_empty() {
        tracing::warn!(
            graph,
            "no quantised convolution in the graph: it runs in tract's own operators, slowly"
        );
    }
    for reason in &recognised.left {
        tracing::warn!(graph, reason, "convolution not recognised: it runs in tract's own operators, slowly");
    }
}

fn plug(model: &mut InferenceModel, mut recognised: Recognised, kernel: Kernel) -> TractResult<()> {
    for node in model.nodes_mut().iter_mut().filter(|node| node.op_is::<UnimplementedOp>()) {
        if let Some(products) = recognised.placeholders.remove(&node.name) {
            node.op = expand(QuantisedProducts::new(kernel, products));
        }
    }
    ensure!(recognised.placeholders.is_empty(), "two nodes have the same name");
    Ok(())
}

/// Checks that the graph has the one input and the one output that the engine knows.
fn interface(model: &TypedModel) -> TractResult<(Option<usize>, usize)> {
    let (&[input, ref types @ ..], &[output]) = (model.input_outlets()?, model.output_outlets()?) else {
        bail!("it must have an input and one output");
    };
    for &types in types {
        let types = model.outlet_fact(types)?;
        ensure!(
            types.datum_type == i64::datum_type() && types.rank() == 2,
            "{types:?} is not i64 [1, tokens]"
        );
    }
    let (input, output) = (model.outlet_fact(input)?, model.outlet_fact(output)?);
    let channels = |fact: &TypedFact| {
        ensure!(
            fact.datum_type == f32::datum_type() && fact.rank() == 3 && fact.shape[0] == 1.to_dim(),
            "{fact:?} is not f32 [1, channels, tokens]"
        );
        Ok(fact.shape[1].to_usize()?)
    };
    let input_channels = match input.datum_type {
        DatumType::I64 if input.rank() == 2 => None,
        _ => Some(channels(input)?),
    };
    Ok((input_channels, channels(output)?))
}

#[cfg(test)]
mod tests;
