//! Plain Rust for every CPU: dot products of contiguous 16-bit numbers, which compilers turn into `pmaddwd`, `smlal` and
//! their like. 8-bit ones they widen anew for every product.

use crate::{Activations, Weights};

pub(crate) fn multiply(activations: &Activations, weights: &Weights, out: &mut [f32]) {
    let (tokens, channels, depth) = (activations.tokens(), activations.channels(), weights.depth());
    if tokens == 0 {
        return;
    }
    let mut row = Vec::with_capacity(depth);
    for (output, out) in out.chunks_exact_mut(tokens).enumerate() {
        let (scale, bias) = weights.scale_and_bias(output);
        // Widened once for all tokens.
        row.clear();
        row.extend(weights.row(output).as_flattened().iter().map(|&weight| i16::from(weight)));
        let start = output / weights.outputs_per_group() * depth;
        let tokens = activations.rows().chunks_exact(channels).zip(activations.scales());
        for (y, (token, row_scale)) in out.iter_mut().zip(tokens) {
            let sum = dot(&token[start..start + depth], &row);
            *y = sum as f32 * row_scale * scale + bias;
        }
    }
}

fn dot(x: &[i16], w: &[i16]) -> i32 {
    x.iter().zip(w).map(|(&x, &w)| i32::from(x) * i32::from(w)).sum()
}
