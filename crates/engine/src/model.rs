//! A graph of the bundle as tract runs it: parsed, our operator plugged in, optimised, with one plan for all lengths.
//! The plain tract plan of the same file stays reachable: it is the oracle of the tests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use intentd_kernels::Kernel;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::unimpl::UnimplementedOp;

use crate::WorkerError;
use crate::ops::{QuantisedProducts, Recognised, recognise};

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
    /// Channels of the f32 input and output; the encoder's input has none.
    channels: (Option<usize>, usize),
}

/// A graph on one thread.
#[derive(Debug)]
pub struct Running {
    state: TypedSimpleState,
}

/// f32 values that a graph gave: one sequence, channels first.
#[derive(Clone, Debug)]
pub struct Values(TValue);

impl Model {
    /// Builds a graph from verified bytes. tract panics on some malformed graphs: those panics are errors here too.
    ///
    /// # Errors
    /// What is not understood, for the operator to read.
    pub fn load(graph: &'static str, bytes: &[u8], operators: Operators) -> Result<Self, String> {
        let build = || Self::build(graph, bytes, operators).map_err(|e| format!("{e:#}"));
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
        Ok(Running { state })
    }

    fn build(graph: &'static str, bytes: &[u8], operators: Operators) -> TractResult<Self> {
        let onnx = tract_onnx::onnx();
        let mut proto = onnx.proto_model_for_read(&mut &*bytes)?;
        let recognised = match operators {
            Operators::Plugged(_) => proto.graph.as_mut().map(recognise).unwrap_or_default(),
            Operators::Stock => Recognised::default(),
        };
        let mut model = onnx.model_for_proto_model(&proto)?;
        drop(proto);
        if let Operators::Plugged(kernel) = operators {
            report(graph, &recognised);
            plug(&mut model, recognised, kernel)?;
        }
        let model = model.into_optimized()?;
        let channels = interface(&model)?;
        Ok(Self { graph, plan: model.into_runnable()?, channels })
    }

    fn describe(&self, node: &TypedNode) -> Operator {
        let ours = node.op_as::<QuantisedProducts>();
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
            kernel: ours.map(|ours| ours.kernel().name()),
            precision,
            shape: shapes.join(" "),
        }
    }
}

impl Running {
    /// Runs the encoder on token ids.
    pub fn encode(&mut self, ids: &[u32]) -> Result<Values, String> {
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let input = Tensor::from_shape(&[1, ids.len()], &ids).map_err(|e| format!("{e:#}"))?;
        self.run(input.into_tvalue())
    }

    /// Runs a head on hidden states.
    pub fn score(&mut self, hidden: &Values) -> Result<Values, String> {
        self.run(hidden.0.clone())
    }

    fn run(&mut self, input: TValue) -> Result<Values, String> {
        let mut outputs = self.state.run(tvec!(input)).map_err(|e| format!("{e:#}"))?;
        let values = Values(outputs.remove(0));
        match values.as_slice() {
            [] => Err("the graph gave no values".to_owned()),
            all if all.iter().all(|value| value.is_finite()) => Ok(values),
            _ => Err("the graph gave a value that is no number".to_owned()),
        }
    }
}

impl Values {
    /// The values, `[channels, tokens]`.
    pub fn as_slice(&self) -> &[f32] {
        self.0.as_plain_ram().and_then(|view| view.as_slice().ok()).unwrap_or_default()
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.0.shape().last().copied().unwrap_or_default()
    }
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
    let (&[input], &[output]) = (model.input_outlets()?, model.output_outlets()?) else {
        bail!("it must have one input and one output");
    };
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
