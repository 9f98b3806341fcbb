//! AVX2: `vpmaddubsw` multiplies u8 activations by s8 weights and adds two neighbours in 16 bits, `vpmaddwd` with ones
//! adds two of those in 32 bits. The first saturates; [`Weights`] guarantees that it never does. Results of two
//! `vpmaddubsw` are added only after `vpmaddwd`: their 16 bits have no room for a second one.
//!
//! A register holds eight tokens of one output, so results leave channels first without a transposition.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_add_ps, _mm256_cvtepi32_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_storeu_ps,
};

use crate::activations::BLOCK;
use crate::{Activations, Weights};

/// Proof that the CPU has AVX2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2(());

/// Outputs computed together: each load of activations serves that many.
const OUTPUTS: usize = 4;

impl Avx2 {
    pub(crate) fn new() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    pub(crate) fn quantise(self, x: &[f32], channels: usize, tokens: usize, out: &mut Activations) {
        // SAFETY: a value of this type exists only where `new` has found AVX2.
        unsafe { quantise(x, channels, tokens, out) }
    }

    pub(crate) fn multiply(self, activations: &Activations, weights: &Weights, out: &mut [f32]) {
        // SAFETY: a value of this type exists only where `new` has found AVX2.
        unsafe { multiply(activations, weights, out) }
    }
}

/// The portable code, compiled with wider registers.
#[target_feature(enable = "avx2")]
fn quantise(x: &[f32], channels: usize, tokens: usize, out: &mut Activations) {
    out.quantise_quads(x, channels, tokens);
}

#[target_feature(enable = "avx2")]
fn multiply(activations: &Activations, weights: &Weights, out: &mut [f32]) {
    let per_group = weights.outputs_per_group();
    for group in 0..weights.groups() {
        let outputs = group * per_group..(group + 1) * per_group;
        let whole = outputs.start + per_group / OUTPUTS * OUTPUTS;
        for output in (outputs.start..whole).step_by(OUTPUTS) {
            multiply_outputs::<OUTPUTS>(activations, weights, group, output, out);
        }
        for output in whole..outputs.end {
            multiply_outputs::<1>(activations, weights, group, output, out);
        }
    }
}

/// `N` neighbouring outputs of one group, for all tokens.
#[target_feature(enable = "avx2")]
fn multiply_outputs<const N: usize>(
    activations: &Activations,
    weights: &Weights,
    group: usize,
    output: usize,
    out: &mut [f32],
) {
    let (tokens, quads) = (activations.tokens(), weights.depth() / 4);
    let rows: [&[[i8; 4]]; N] = std::array::from_fn(|n| weights.row(output + n));
    let start = group * quads;
    let blocks = activations.quads().chunks_exact(activations.channels() / 4);
    let scales = activations.padded_scales().as_chunks::<BLOCK>().0;
    for (block, (x, row_scales)) in blocks.zip(scales).enumerate() {
        let sums = sums(&x[start..start + quads], rows);
        for (n, sum) in sums.into_iter().enumerate() {
            let first = (output + n) * tokens + block * BLOCK;
            let lanes = BLOCK.min(tokens - block * BLOCK);
            let values = finish(sum, row_scales, weights, output + n);
            match out[first..first + lanes].first_chunk_mut::<BLOCK>() {
                Some(whole) => *whole = values,
                None => out[first..first + lanes].copy_from_slice(&values[..lanes]),
            }
        }
    }
}

/// Sums of u8 products of one block of tokens with `N` rows of weights.
#[target_feature(enable = "avx2")]
fn sums<const N: usize>(x: &[[u32; BLOCK]], rows: [&[[i8; 4]]; N]) -> [__m256i; N] {
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_set1_epi32(0); N];
    // One length for all: the compiler then checks no index in the loop.
    let rows = rows.map(|row| &row[..x.len()]);
    for (quad, x) in x.iter().enumerate() {
        // SAFETY: `x` is 32 readable bytes; the load needs no alignment.
        let x = unsafe { _mm256_loadu_si256(x.as_ptr().cast()) };
        for n in 0..N {
            let weights = _mm256_set1_epi32(i32::from_le_bytes(rows[n][quad].map(|w| w as u8)));
            let products = _mm256_madd_epi16(_mm256_maddubs_epi16(x, weights), ones);
            sums[n] = _mm256_add_epi32(sums[n], products);
        }
    }
    sums
}

/// From the sums of one output to its f32 values, in the one written order.
#[target_feature(enable = "avx2")]
fn finish(sum: __m256i, row_scales: &[f32; BLOCK], weights: &Weights, output: usize) -> [f32; BLOCK] {
    let (scale, bias) = weights.scale_and_bias(output);
    let sum = _mm256_add_epi32(sum, _mm256_set1_epi32(weights.correction(output)));
    // SAFETY: `row_scales` is 32 readable bytes; the load needs no alignment.
    let row_scales = unsafe { _mm256_loadu_ps(row_scales.as_ptr()) };
    let scaled = _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), row_scales), _mm256_set1_ps(scale));
    let mut values = [0.0; BLOCK];
    // SAFETY: `values` is 32 writable bytes; the store needs no alignment.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), _mm256_add_ps(scaled, _mm256_set1_ps(bias))) };
    values
}
