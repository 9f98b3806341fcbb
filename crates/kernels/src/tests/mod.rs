//! Every case on every kernel that the machine has, against loops a child can check: products exactly, f32 steps within
//! the bounds that their documentation states, and all kernels alike to the bit.

mod products;
mod steps;

#[cfg(target_arch = "aarch64")]
use crate::aarch64;
use crate::floats::{Floats, LANES, times_plus};
use crate::lanes::Tile;
#[cfg(target_arch = "x86_64")]
use crate::x86_64;
use crate::{Activations, Attention, Isa, Kernel, Norm, Then, Weights, WeightsError, lanes, on, rows};

/// A function of vectors over values, on one kernel.
macro_rules! map {
    ($kernel:expr, $values:expr, |$cpu:ident, $x:ident| $of:expr) => {{
        let (whole, rest) = $values.as_chunks_mut::<LANES>();
        assert!(rest.is_empty());
        on!($kernel, T, $cpu => for values in whole {
            let $x = <T as Tile>::Floats::load($cpu, values);
            Floats::store($of, values);
        });
    }};
}

fn gelu(kernel: Kernel, values: &mut [f32]) {
    map!(kernel, values, |cpu, x| rows::gelu(cpu, [x])[0]);
}

fn exp(kernel: Kernel, values: &mut [f32]) {
    map!(kernel, values, |cpu, x| rows::exp(cpu, x));
}

/// Row scale and integers of one token, as the definition says.
fn quantise_token(values: &[f32]) -> (f32, Vec<i8>) {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = (largest * (1.0 / 127.0)).max(1e-8);
    (scale, values.iter().map(|value| (value * (1.0 / scale)).round_ties_even() as i8).collect())
}

/// The whole product: quantise, three loops, scale.
fn oracle(
    x: &[f32],
    tokens: usize,
    integers: &[i8],
    groups: usize,
    scales: &[f32],
    biases: &[f32],
) -> Vec<f32> {
    let outputs = scales.len();
    let depth = integers.len() / outputs;
    let mut out = Vec::new();
    for row in x.chunks_exact(depth * groups).take(tokens) {
        let (row_scale, row) = quantise_token(row);
        for output in 0..outputs {
            let start = output / (outputs / groups) * depth;
            let mut sum = 0_i32;
            for k in 0..depth {
                sum += i32::from(row[start + k]) * i32::from(integers[output * depth + k]);
            }
            out.push((sum as f32 * row_scale).mul_add(scales[output], biases[output]));
        }
    }
    out
}

#[track_caller]
fn check(x: &[f32], tokens: usize, integers: &[i8], groups: usize, scales: &[f32], biases: &[f32]) {
    let weights = Weights::new(integers, groups, scales.to_vec(), biases.to_vec()).unwrap();
    let expected = oracle(x, tokens, integers, groups, scales, biases);
    for kernel in Kernel::all() {
        let mut activations = Activations::default();
        kernel.quantise(x, weights.inputs(), &mut activations);
        for (t, row) in x.chunks_exact(weights.inputs()).enumerate() {
            let (scale, row) = quantise_token(row);
            assert_eq!(activations.scales()[t], scale, "{}: scale of token {t}", kernel.name());
            for (channel, integer) in row.into_iter().enumerate() {
                assert_eq!(activations.integer(t, channel), integer, "{}: {t}, {channel}", kernel.name());
            }
        }
        let mut out = vec![f32::NAN; weights.outputs() * tokens];
        kernel.multiply(&activations, &weights, Then::Store, &mut out);
        assert_eq!(out, expected, "{}: {tokens} tokens, {groups} groups", kernel.name());
    }
}

/// Numbers from 0 to 1 that look random and are the same on every run.
fn unit_numbers(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as f32 / u32::MAX as f32
    })
}

fn values(seed: u64, count: usize) -> Vec<f32> {
    unit_numbers(seed).map(|number| (number - 0.5) * 8.0).take(count).collect()
}

fn random_weights(seed: u64, depth: usize, per_group: usize, groups: usize) -> (Vec<i8>, Vec<f32>, Vec<f32>) {
    let outputs = per_group * groups;
    let mut numbers = unit_numbers(seed);
    let integers =
        numbers.by_ref().take(outputs * depth).map(|n| ((n * 128.0) as i8).wrapping_sub(64)).collect();
    let scales = numbers.by_ref().take(outputs).map(|n| n * 0.01).collect();
    (integers, scales, numbers.take(outputs).map(|n| n - 0.5).collect())
}

fn check_random(seed: u64, tokens: usize, depth: usize, per_group: usize, groups: usize) {
    let (integers, scales, biases) = random_weights(seed, depth, per_group, groups);
    let x = values(seed + 1, depth * groups * tokens);
    check(&x, tokens, &integers, groups, &scales, &biases);
}

/// Whole vectors of the values.
fn padded(values: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut values: Vec<f32> = values.collect();
    values.resize(values.len().next_multiple_of(LANES), -1.0);
    values
}
