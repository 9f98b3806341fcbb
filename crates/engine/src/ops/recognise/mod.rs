//! Finds in an ONNX graph what our operators compute: a whole encoder, a whole head, or else single quantised
//! convolutions. By data flow, not by name: whoever made the graph may name nodes as they like, but each constant and
//! attribute must be what our arithmetic does. A quantised convolution is
//!
//! ```text
//! x -> Abs -> ReduceMax(channels) -> Mul(1/127) -> Max(1e-8)                             the row scale s
//! x -> Div(s) -> QuantizeLinear(1, 128) -> ConvInteger(w, 128) -> Cast -> Mul(s) -> Mul(channel scale) -> Add(bias)
//! ```

mod encoder;
mod head;

use std::collections::{HashMap, HashSet};

use intentd_kernels::Weights;
use tract_onnx::data_resolver::FopenDataResolver;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, tensor_proto};
use tract_onnx::prelude::*;
use tract_onnx::tensor::load_tensor;

pub(crate) use encoder::recognise_encoder;
pub(crate) use head::recognise_head;

/// Operator type of the nodes that stand where convolutions were recognised. No such ONNX operator exists, so the
/// parser keeps the node without looking into it.
const PLACEHOLDER: &str = "intentd.QuantisedProducts";

/// What was found, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Recognised {
    /// Products of each placeholder, by the placeholder's name.
    pub(crate) placeholders: HashMap<String, Vec<Weights>>,
    /// Why integer convolutions were left alone: `node: reason`.
    pub(crate) left: Vec<String>,
}

/// Replaces the convolutions that it recognises, those with the same input together.
pub(crate) fn recognise(graph: &mut GraphProto) -> Recognised {
    let mut recognised = Recognised::default();
    let mut found: Vec<Convolution> = Vec::new();
    let flow = Flow::of(graph);
    for (index, node) in graph.node.iter().enumerate().filter(|(_, node)| node.op_type == "ConvInteger") {
        match flow.convolution(index) {
            Ok(convolution) => found.push(convolution),
            Err(reason) => recognised.left.push(format!("{}: {reason}", node.name)),
        }
    }
    replace(graph, found, &mut recognised);
    recognised
}

/// A recognised convolution.
struct Convolution {
    /// Name of the f32 input.
    input: String,
    /// Name of the u8 input, which tells which convolutions share their quantisation.
    integers: String,
    /// Name of the f32 output.
    output: String,
    /// The nodes from ConvInteger to Add, whose work the operator does.
    nodes: [usize; 5],
    weights: Weights,
}

fn replace(graph: &mut GraphProto, found: Vec<Convolution>, recognised: &mut Recognised) {
    let mut gone: HashSet<usize> = HashSet::new();
    let mut nodes: Vec<NodeProto> = Vec::new();
    let mut at: HashMap<String, usize> = HashMap::new();
    for convolution in found {
        gone.extend(convolution.nodes);
        let name = format!("{}/products", convolution.integers);
        let index = *at.entry(convolution.integers).or_insert_with(|| {
            nodes.push(NodeProto {
                name: name.clone(),
                op_type: PLACEHOLDER.to_owned(),
                input: vec![convolution.input],
                ..NodeProto::default()
            });
            nodes.len() - 1
        });
        nodes[index].output.push(convolution.output);
        recognised.placeholders.entry(name).or_default().push(convolution.weights);
    }
    let mut index = 0;
    graph.node.retain(|_| {
        index += 1;
        !gone.contains(&(index - 1))
    });
    graph.node.extend(nodes);
    // The weights now live in the operator: drop what nobody reads before tract makes tensors of it.
    let read: HashSet<&str> = graph.node.iter().flat_map(|node| &node.input).map(String::as_str).collect();
    graph.initializer.retain(|tensor| read.contains(tensor.name.as_str()));
}

/// Who makes and who reads each value.
struct Flow<'a> {
    nodes: &'a [NodeProto],
    constants: HashMap<&'a str, &'a TensorProto>,
    makers: HashMap<&'a str, usize>,
    readers: HashMap<&'a str, Vec<usize>>,
    outputs: HashSet<&'a str>,
}

/// Why a convolution is not ours.
type Reason = String;

impl<'a> Flow<'a> {
    fn of(graph: &'a GraphProto) -> Self {
        let mut makers = HashMap::new();
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, node) in graph.node.iter().enumerate() {
            makers.extend(node.output.iter().map(|name| (name.as_str(), index)));
            for name in &node.input {
                readers.entry(name).or_default().push(index);
            }
        }
        Self {
            nodes: &graph.node,
            constants: graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect(),
            makers,
            readers,
            outputs: graph.output.iter().map(|output| output.name.as_str()).collect(),
        }
    }

    fn convolution(&self, index: usize) -> Result<Convolution, Reason> {
        let node = &self.nodes[index];
        let groups = pointwise_groups(node)?;
        let [integers, kernel, zero_point] = self.inputs(node)?;
        self.expect_zero_point(zero_point)?;
        let (input, row_scale) = self.quantised(integers)?;

        let cast = self.only_reader(index, "Cast")?;
        if attribute(&self.nodes[cast], "to") != Some(i64::from(tensor_proto::DataType::Float as i32)) {
            return Err("the sums are not cast to f32".to_owned());
        }
        let row_scaled = self.only_reader(cast, "Mul")?;
        if self.other_input(row_scaled, cast)? != row_scale {
            return Err("the sums are not multiplied by the row scale first".to_owned());
        }
        let scaled = self.only_reader(row_scaled, "Mul")?;
        let sum = self.only_reader(scaled, "Add")?;
        let scales = self.other_input(scaled, row_scaled)?;
        let biases = self.other_input(sum, scaled)?;
        Ok(Convolution {
            input: input.to_owned(),
            integers: integers.to_owned(),
            output: self.output(sum)?.to_owned(),
            nodes: [index, cast, row_scaled, scaled, sum],
            weights: self.weights(kernel, groups, scales, biases)?,
        })
    }

    /// Input and row scale of quantised integers.
    fn quantised(&self, integers: &str) -> Result<(&'a str, &'a str), Reason> {
        let [scaled, unit, zero_point] = self.inputs(self.maker(integers, "QuantizeLinear")?)?;
        self.expect_scalar(unit, 1.0)?;
        self.expect_zero_point(zero_point)?;
        let [input, scale] = self.inputs(self.maker(scaled, "Div")?)?;
        let unclamped = self.without_constant(self.maker(scale, "Max")?, 1e-8)?;
        let largest = self.without_constant(self.maker(unclamped, "Mul")?, 1.0 / 127.0)?;
        let reduce = self.maker(largest, "ReduceMax")?;
        let axes = reduce.attribute.iter().find(|a| a.name == "axes").map(|a| a.ints.as_slice());
        if axes != Some(&[1]) || attribute(reduce, "keepdims").unwrap_or(1) != 1 {
            return Err("the row scale is not the maximum over the channels".to_owned());
        }
        let [magnitude] = self.inputs(reduce)?;
        let [same] = self.inputs(self.maker(magnitude, "Abs")?)?;
        if same != input {
            return Err("the row scale is that of another value".to_owned());
        }
        Ok((input, scale))
    }

    /// The convolution that makes a value.
    fn convolution_of(&self, value: &str) -> Result<Convolution, Reason> {
        let mut node = self.maker(value, "Add")?;
        // Against the flow from Add to ConvInteger; the constants may stand on either side.
        for operator in ["Mul", "Mul", "Cast", "ConvInteger"] {
            let made = node.input.iter().find(|name| self.maker(name, operator).is_ok());
            let made = made.ok_or_else(|| format!("{value} is not made by a quantised convolution"))?;
            node = self.maker(made, operator)?;
        }
        let index = self.nodes.iter().position(|other| std::ptr::eq(other, node));
        let convolution = self.convolution(index.ok_or("a node of another graph")?)?;
        if convolution.output == value {
            Ok(convolution)
        } else {
            Err(format!("{value} is made by more than a convolution"))
        }
    }

    /// The input of a transposition with this permutation that makes a value.
    fn transposed(&self, value: &str, permutation: &[i64]) -> Result<&'a str, Reason> {
        let node = self.maker(value, "Transpose")?;
        let found = node.attribute.iter().find(|a| a.name == "perm").map(|a| a.ints.as_slice());
        if found != Some(permutation) {
            return Err(format!("{} does not transpose by {permutation:?}", node.name));
        }
        let [input] = self.inputs(node)?;
        Ok(input)
    }

    /// A constant's values, and its shape.
    fn array<T: Datum + Copy>(&self, name: &str) -> Result<(Vec<T>, Vec<usize>), Reason> {
        let tensor = self.constant(name)?;
        if tensor.datum_type() != T::datum_type() {
            return Err(format!("{name} is {:?}, not {:?}", tensor.datum_type(), T::datum_type()));
        }
        Ok((values(&tensor)?, tensor.shape().to_vec()))
    }

    fn weights(&self, kernel: &str, groups: usize, scales: &str, biases: &str) -> Result<Weights, Reason> {
        let kernel = self.constant(kernel)?;
        let &[outputs, _, 1] = kernel.shape() else {
            return Err(format!("weights of shape {:?} are not pointwise", kernel.shape()));
        };
        let integers = values::<i8>(&kernel)?;
        let per_output = |name: &str| {
            let tensor = self.constant(name)?;
            if !matches!(tensor.shape(), [1, n, 1] | [n, 1] if *n == outputs) {
                return Err(format!("{name} of shape {:?} is not one value per output", tensor.shape()));
            }
            values::<f32>(&tensor)
        };
        Weights::new(&integers, groups, per_output(scales)?, per_output(biases)?).map_err(|e| e.to_string())
    }

    fn maker(&self, value: &str, operator: &str) -> Result<&'a NodeProto, Reason> {
        let node = self.makers.get(value).map(|&index| &self.nodes[index]);
        node.filter(|node| node.op_type == operator)
            .ok_or_else(|| format!("{value} is not made by {operator}"))
    }

    fn inputs<const N: usize>(&self, node: &'a NodeProto) -> Result<[&'a str; N], Reason> {
        let names: Vec<&str> = node.input.iter().map(String::as_str).collect();
        names.try_into().map_err(|_| format!("{} has {} inputs, not {N}", node.name, node.input.len()))
    }

    fn output(&self, index: usize) -> Result<&'a str, Reason> {
        match self.nodes[index].output.as_slice() {
            [output] => Ok(output),
            outputs => Err(format!("{} has {} outputs", self.nodes[index].name, outputs.len())),
        }
    }

    /// The one node that reads the node's output; the output must not leave the graph.
    fn only_reader(&self, index: usize, operator: &str) -> Result<usize, Reason> {
        let output = self.output(index)?;
        match self.readers.get(output).map(Vec::as_slice) {
            Some(&[reader]) if self.nodes[reader].op_type == operator && !self.outputs.contains(output) => {
                Ok(reader)
            }
            _ => Err(format!("{output} is not read by one {operator} alone")),
        }
    }

    /// What a node of two inputs reads beside the output of `from`.
    fn other_input(&self, index: usize, from: usize) -> Result<&'a str, Reason> {
        let (inputs, known) = (self.inputs(&self.nodes[index])?, self.output(from)?);
        match inputs {
            [a, b] if a == known => Ok(b),
            [a, b] if b == known => Ok(a),
            _ => Err(format!("{} does not read {known}", self.nodes[index].name)),
        }
    }

    /// The other input of a node that reads a scalar constant of this value.
    fn without_constant(&self, node: &'a NodeProto, value: f32) -> Result<&'a str, Reason> {
        let [a, b] = self.inputs(node)?;
        if self.expect_scalar(b, value).is_ok() {
            return Ok(a);
        }
        self.expect_scalar(a, value).map(|()| b)
    }

    fn expect_scalar(&self, name: &str, value: f32) -> Result<(), Reason> {
        match values::<f32>(&self.constant(name)?)?.as_slice() {
            [found] if *found == value => Ok(()),
            found => Err(format!("{name} is {found:?}, not {value}")),
        }
    }

    fn expect_zero_point(&self, name: &str) -> Result<(), Reason> {
        match values::<u8>(&self.constant(name)?)?.as_slice() {
            [128] => Ok(()),
            found => Err(format!("{name} is {found:?}, not 128")),
        }
    }

    fn constant(&self, name: &str) -> Result<Tensor, Reason> {
        let proto = self.constants.get(name).ok_or_else(|| format!("{name} is no constant"))?;
        // Without a folder, tensors that point to other files are refused.
        load_tensor(&FopenDataResolver, proto, None).map_err(|e| format!("{name}: {e}"))
    }
}

/// Number of groups of a convolution that looks at one position at a time.
fn pointwise_groups(node: &NodeProto) -> Result<usize, Reason> {
    let mut groups = 1;
    for attribute in &node.attribute {
        let usual = match attribute.name.as_str() {
            "group" => {
                groups = usize::try_from(attribute.i).map_err(|_| "group is negative".to_owned())?;
                true
            }
            "kernel_shape" | "strides" | "dilations" => attribute.ints == [1],
            "pads" => attribute.ints == [0, 0],
            "auto_pad" => attribute.s == b"NOTSET",
            _ => false,
        };
        if !usual {
            return Err(format!("attribute {} is not that of a pointwise convolution", attribute.name));
        }
    }
    Ok(groups)
}

fn attribute(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.i)
}

fn values<T: Datum + Copy>(tensor: &Tensor) -> Result<Vec<T>, Reason> {
    let view = tensor.try_as_plain_ram().map_err(|e| e.to_string())?;
    Ok(view.as_slice::<T>().map_err(|e| e.to_string())?.to_vec())
}
