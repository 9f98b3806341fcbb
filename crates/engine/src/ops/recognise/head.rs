//! A head: one quantised convolution of the hidden states, or of their mean over the tokens.

use tract_onnx::pb::GraphProto;

use super::{Flow, Reason, attribute};
use crate::ops::head::Head;

/// Takes a head out of a graph with the one input of hidden states and the one output of scores.
pub(crate) fn recognise_head(graph: &GraphProto) -> Result<Head, Reason> {
    let ([input], [output]) = (graph.input.as_slice(), graph.output.as_slice()) else {
        return Err("it must have one input and one output".to_owned());
    };
    let flow = Flow::of(graph);
    let convolution = flow.convolution_of(&output.name)?;
    if convolution.input == input.name {
        return Ok(Head { of_mean: false, weights: convolution.weights });
    }
    let mean = flow.maker(&convolution.input, "ReduceMean")?;
    let axes = mean.attribute.iter().find(|a| a.name == "axes").map(|a| a.ints.as_slice());
    let [reduced] = flow.inputs(mean)?;
    if reduced != input.name || axes != Some(&[2]) || attribute(mean, "keepdims").unwrap_or(1) != 1 {
        return Err(format!("{} is not the mean of the hidden states over the tokens", mean.name));
    }
    Ok(Head { of_mean: true, weights: convolution.weights })
}
