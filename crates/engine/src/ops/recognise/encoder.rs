//! A SqueezeBERT encoder, walked from its output back to the token ids. Hidden states are channels first,
//! `[1, channels, tokens]`; layer norm works on the last axis, so transpositions stand around it.

use intentd_kernels::{Attention, Norm, Weights};
use tract_onnx::pb::{GraphProto, NodeProto};

use super::{Flow, Reason, attribute};
use crate::ops::encoder::{Embedding, Encoder, Layer};

/// Takes an encoder out of a graph with the input `[1, tokens]` of ids, perhaps another of token types, and the one output
/// of hidden states.
pub(crate) fn recognise_encoder(graph: &GraphProto) -> Result<Encoder, Reason> {
    let ([ids, types @ ..], [output]) = (graph.input.as_slice(), graph.output.as_slice()) else {
        return Err("it must have an input and one output".to_owned());
    };
    let types = match types {
        [] => None,
        [types] => Some(types.name.as_str()),
        _ => return Err("it has more inputs than token ids and types".to_owned()),
    };
    let flow = Flow::of(graph);
    let mut walk = Walk { flow: &flow, heads: None };
    let mut layers = Vec::new();
    let mut value = output.name.as_str();
    let embedding = loop {
        let (input_of_norm, norm) = walk.normalised(value)?;
        // The embedding is normalised before its channels go first.
        let Ok(sum) = flow.transposed(input_of_norm, &CHANNELS_LAST) else {
            break walk.embedding(input_of_norm, norm, &ids.name, types)?;
        };
        let (layer, before) = walk.layer(sum, norm)?;
        layers.push(layer);
        value = before;
    };
    layers.reverse();
    let heads = walk.heads.ok_or("it has no layer")?;
    let encoder = Encoder { embedding, layers, heads };
    check_sizes(&encoder)?;
    Ok(encoder)
}

const CHANNELS_LAST: [i64; 3] = [0, 2, 1];
const ROWS_LAST: [i64; 4] = [0, 1, 3, 2];

struct Walk<'a> {
    flow: &'a Flow<'a>,
    /// As the layers seen so far say.
    heads: Option<usize>,
}

impl<'a> Walk<'a> {
    /// Of a value that is a layer norm with channels first: what goes into the norm, channels last.
    fn normalised(&self, value: &str) -> Result<(&'a str, Norm), Reason> {
        let node = self.flow.maker(self.flow.transposed(value, &CHANNELS_LAST)?, "LayerNormalization")?;
        let [input, weight, bias] = self.flow.inputs(node)?;
        if attribute(node, "axis").unwrap_or(-1) != -1 {
            return Err(format!("{} does not work on the last axis", node.name));
        }
        let epsilon = node.attribute.iter().find(|a| a.name == "epsilon").map_or(1e-5, |a| a.f);
        let (weight, bias) = (self.flow.array(weight)?.0, self.flow.array(bias)?.0);
        if !Norm::fits(weight.len()) || weight.len() != bias.len() {
            let (weights, biases) = (weight.len(), bias.len());
            return Err(format!(
                "{} has {weights} weights and {biases} biases: a multiple of 8 of each",
                node.name
            ));
        }
        Ok((input, Norm::new(weight, bias, epsilon)))
    }

    /// A layer from the sum that its last norm takes, and the layer's input.
    fn layer(&mut self, sum: &str, output_norm: Norm) -> Result<(Layer, &'a str), Reason> {
        let (x, contract) = self.residual(sum)?;
        let expanded = self.gelu(&contract.input)?;
        let expand = self.flow.convolution_of(expanded)?;
        if expand.input != x {
            return Err(format!("the feed-forward part of {sum} reads another value than it is added to"));
        }
        let (input_of_norm, attention_norm) = self.normalised(x)?;
        let sum = self.flow.transposed(input_of_norm, &CHANNELS_LAST)?;
        let (x, output) = self.residual(sum)?;
        let projections = self.attention(&output.input, x)?;
        let layer = Layer {
            projections,
            output: output.weights,
            attention_norm,
            expand: expand.weights,
            contract: contract.weights,
            output_norm,
        };
        Ok((layer, x))
    }

    /// A sum of a value and a convolution.
    fn residual(&self, sum: &str) -> Result<(&'a str, super::Convolution), Reason> {
        let [a, b] = self.flow.inputs(self.flow.maker(sum, "Add")?)?;
        match self.flow.convolution_of(b) {
            Ok(convolution) => Ok((a, convolution)),
            Err(_) => Ok((b, self.flow.convolution_of(a)?)),
        }
    }

    /// The x of `0.5 (x (1 + erf(x / sqrt 2)))`.
    fn gelu(&self, value: &str) -> Result<&'a str, Reason> {
        let product = self.flow.without_constant(self.flow.maker(value, "Mul")?, 0.5)?;
        let [a, b] = self.flow.inputs(self.flow.maker(product, "Mul")?)?;
        let (x, shifted) = if self.flow.maker(b, "Add").is_ok_and(|node| self.is_shifted_erf(node)) {
            (a, b)
        } else {
            (b, a)
        };
        let erf = self.flow.without_constant(self.flow.maker(shifted, "Add")?, 1.0)?;
        let [scaled] = self.flow.inputs(self.flow.maker(erf, "Erf")?)?;
        let [same, divisor] = self.flow.inputs(self.flow.maker(scaled, "Div")?)?;
        self.flow.expect_scalar(divisor, std::f32::consts::SQRT_2)?;
        if same == x { Ok(x) } else { Err(format!("{value} is no GELU")) }
    }

    fn is_shifted_erf(&self, node: &NodeProto) -> bool {
        node.input.iter().any(|input| self.flow.maker(input, "Erf").is_ok())
    }

    /// The projections of an attention over `x` that makes `context`.
    fn attention(&mut self, context: &str, x: &str) -> Result<[Weights; 3], Reason> {
        let [merged, _shape] = self.flow.inputs(self.flow.maker(context, "Reshape")?)?;
        let product = self.flow.maker(self.flow.transposed(merged, &ROWS_LAST)?, "MatMul")?;
        let [weights, values] = self.flow.inputs(product)?;
        let softmax = self.flow.maker(weights, "Softmax")?;
        if !matches!(attribute(softmax, "axis"), None | Some(-1)) {
            return Err(format!("{} does not work on the last axis", softmax.name));
        }
        let [scores] = self.flow.inputs(softmax)?;
        let [products, scale] = self.flow.inputs(self.flow.maker(scores, "Mul")?)?;
        let [queries, keys] = self.flow.inputs(self.flow.maker(products, "MatMul")?)?;
        let query = self.projection(self.flow.transposed(queries, &ROWS_LAST)?, x)?;
        let key = self.projection(keys, x)?;
        let value = self.projection(self.flow.transposed(values, &ROWS_LAST)?, x)?;
        let size = query.outputs() / self.heads.unwrap_or(1);
        let expected = 1.0 / (size as f32).sqrt();
        match self.flow.array::<f32>(scale)?.0.as_slice() {
            [scale] if (scale - expected).abs() <= 1e-6 => Ok([query, key, value]),
            scale => Err(format!("the scores are scaled by {scale:?}, not {expected}")),
        }
    }

    /// A convolution of `x` whose outputs are split into heads.
    fn projection(&mut self, split: &str, x: &str) -> Result<Weights, Reason> {
        let [value, shape] = self.flow.inputs(self.flow.maker(split, "Reshape")?)?;
        let &[1, heads, size, -1] = self.flow.array::<i64>(shape)?.0.as_slice() else {
            return Err(format!("{split} is not split into [1, heads, channels, tokens]"));
        };
        let convolution = self.flow.convolution_of(value)?;
        let heads = usize::try_from(heads).map_err(|e| e.to_string())?;
        if convolution.input != x || convolution.weights.outputs() as i64 != heads as i64 * size {
            return Err(format!("{split} is not a projection of {x} to {heads} heads of {size} channels"));
        }
        if *self.heads.get_or_insert(heads) != heads {
            return Err("layers differ in heads".to_owned());
        }
        Ok(convolution.weights)
    }

    /// The embedding whose norm takes `sum`.
    fn embedding(&self, sum: &str, norm: Norm, ids: &str, types: Option<&str>) -> Result<Embedding, Reason> {
        let (sum, types) = match types {
            None => (sum, None),
            Some(types) => {
                let [sum, rows] = self.flow.inputs(self.flow.maker(sum, "Add")?)?;
                (sum, Some(self.flow.array::<f32>(self.gathered(rows, types)?)?.0))
            }
        };
        let [words, positions] = self.flow.inputs(self.flow.maker(sum, "Add")?)?;
        let [rows, scales] = self.flow.inputs(self.flow.maker(words, "Mul")?)?;
        let [rows] = self.flow.inputs(self.flow.maker(rows, "Cast")?)?;
        let rows = self.gathered(rows, ids)?;
        let scales = self.gathered(scales, ids)?;
        let [positions, range] = self.flow.inputs(self.flow.maker(positions, "Gather")?)?;
        let [start, _length, step] = self.flow.inputs(self.flow.maker(range, "Range")?)?;
        if self.flow.array::<i64>(start)?.0 != [0] || self.flow.array::<i64>(step)?.0 != [1] {
            return Err("positions do not count from 0 by 1".to_owned());
        }
        Ok(Embedding {
            words: self.flow.array::<i8>(rows)?.0,
            scales: self.flow.array::<f32>(scales)?.0,
            positions: self.flow.array::<f32>(positions)?.0,
            types,
            norm,
        })
    }

    /// The table whose rows are gathered by the token ids, or types.
    fn gathered(&self, value: &str, ids: &str) -> Result<&'a str, Reason> {
        let node = self.flow.maker(value, "Gather")?;
        let [table, index] = self.flow.inputs(node)?;
        if index != ids || attribute(node, "axis").unwrap_or(0) != 0 {
            return Err(format!("{} does not gather rows by {ids}", node.name));
        }
        Ok(table)
    }
}

fn check_sizes(encoder: &Encoder) -> Result<(), Reason> {
    let Embedding { words, scales, positions, types, norm } = &encoder.embedding;
    let channels = norm.channels();
    if !Attention::fits(encoder.heads, channels) {
        return Err(format!("{channels} channels in {} heads: a head needs a multiple of 16", encoder.heads));
    }
    let whole = |table: &[f32]| table.len().is_multiple_of(channels);
    if words.len() != scales.len() * channels || !whole(positions) || !types.as_deref().is_none_or(whole) {
        return Err("the embedding's tables do not have the channels of its norm".to_owned());
    }
    for (index, layer) in encoder.layers.iter().enumerate() {
        let Layer { projections, output, attention_norm, expand, contract, output_norm } = layer;
        let square = |weights: &Weights| weights.inputs() == channels && weights.outputs() == channels;
        let wide = expand.inputs() == channels
            && contract.inputs() == expand.outputs()
            && contract.outputs() == channels;
        let norms = attention_norm.channels() == channels && output_norm.channels() == channels;
        if !(projections.iter().all(square) && square(output) && wide && norms) {
            return Err(format!("layer {index} has other sizes than {channels} channels"));
        }
    }
    Ok(())
}
