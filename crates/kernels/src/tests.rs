//! Every case on every kernel that the machine has, against loops a child can check, exactly.

use proptest::prelude::*;

use crate::{Activations, Kernel, Weights, WeightsError};

/// Row scale and integers of one token, as the definition says.
fn quantise_token(values: &[f32]) -> (f32, Vec<i8>) {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = (largest * (1.0 / 127.0)).max(1e-8);
    (scale, values.iter().map(|value| (value / scale).round_ties_even() as i8).collect())
}

fn token(x: &[f32], tokens: usize, token: usize) -> Vec<f32> {
    x.iter().skip(token).step_by(tokens).copied().collect()
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
    let rows: Vec<_> = (0..tokens).map(|t| quantise_token(&token(x, tokens, t))).collect();
    let mut out = Vec::new();
    for output in 0..outputs {
        let start = output / (outputs / groups) * depth;
        for (row_scale, row) in &rows {
            let mut sum = 0_i32;
            for k in 0..depth {
                sum += i32::from(row[start + k]) * i32::from(integers[output * depth + k]);
            }
            out.push(sum as f32 * row_scale * scales[output] + biases[output]);
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
        kernel.quantise(x, weights.inputs(), tokens, &mut activations);
        for t in 0..tokens {
            let (scale, row) = quantise_token(&token(x, tokens, t));
            assert_eq!(activations.scales()[t], scale, "{}: scale of token {t}", kernel.name());
            for (channel, integer) in row.into_iter().enumerate() {
                assert_eq!(activations.integer(t, channel), integer, "{}: {t}, {channel}", kernel.name());
            }
        }
        let mut out = vec![f32::NAN; weights.outputs() * tokens];
        kernel.multiply(&activations, &weights, &mut out);
        assert_eq!(out, expected, "{}: {tokens} tokens, {groups} groups", kernel.name());
    }
}

/// Numbers that look random and are the same on every run.
fn numbers(seed: u64) -> impl Iterator<Item = u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    })
}

fn check_random(seed: u64, tokens: usize, depth: usize, per_group: usize, groups: usize) {
    let mut numbers = numbers(seed);
    let mut unit = || numbers.next().unwrap_or_default() as f32 / u32::MAX as f32;
    let (outputs, inputs) = (per_group * groups, depth * groups);
    let x: Vec<f32> = (0..inputs * tokens).map(|_| (unit() - 0.5) * 8.0).collect();
    let integers: Vec<i8> =
        (0..outputs * depth).map(|_| (unit() * 128.0) as i8).map(|w| w.wrapping_sub(64)).collect();
    let scales: Vec<f32> = (0..outputs).map(|_| unit() * 0.01).collect();
    let biases: Vec<f32> = (0..outputs).map(|_| unit() - 0.5).collect();
    check(&x, tokens, &integers, groups, &scales, &biases);
}

#[test]
fn products_are_exact_around_every_tile_edge() {
    for tokens in [0, 1, 2, 7, 8, 9, 12, 15, 16, 17, 33] {
        for depth in [4, 8, 28, 32, 36, 96] {
            for per_group in [1, 3, 4, 5, 8] {
                for groups in [1, 2, 4] {
                    check_random((tokens * depth + per_group) as u64, tokens, depth, per_group, groups);
                }
            }
        }
    }
}

#[test]
fn the_sizes_of_the_encoder_are_exact() {
    for (depth, per_group, groups) in [(96, 96, 4), (384, 384, 1), (96, 384, 4), (384, 96, 4)] {
        check_random(7, 12, depth, per_group, groups);
    }
}

/// Every activation at its limit and every weight at its own: 16-bit sums that saturate would show.
#[test]
fn extreme_values_do_not_saturate() {
    let depth = 1536;
    for signs in 0..16 {
        let sign = |bit: usize| if signs >> bit & 1 == 0 { 1 } else { -1 };
        let x: Vec<f32> = (0..depth).map(|k| sign(k % 2) as f32).flat_map(|value| [value; 9]).collect();
        let integers: Vec<i8> = (0..depth).map(|k| 64 * sign(2 + k % 2) as i8).collect();
        check(&x, 9, &integers, 1, &[1.0], &[0.0]);
    }
    // The pair limit allows one weight to be larger, if its neighbour is smaller.
    let integers: Vec<i8> = (0..depth).map(|k| if k % 2 == 0 { 127 } else { -1 }).collect();
    check(&vec![-3.0; depth * 8], 8, &integers, 1, &[1.0], &[0.0]);
}

#[test]
fn halves_round_to_even() {
    let values = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 127.0];
    for kernel in Kernel::all() {
        let mut activations = Activations::default();
        kernel.quantise(&values, 8, 1, &mut activations);
        let got: Vec<i8> = (0..8).map(|channel| activations.integer(0, channel)).collect();
        // The scale is 127 x (1/127), which rounds to 1.
        assert_eq!(activations.scales(), [1.0]);
        assert_eq!(got, [0, 2, 2, 0, -2, -2, 126, 127], "{}", kernel.name());
    }
}

#[test]
fn zeros_and_tiny_values_quantise_to_zero() {
    for value in [0.0, -0.0, 1e-30, f32::MIN_POSITIVE] {
        check(&[value; 4 * 3], 3, &[1, 2, 3, 4], 1, &[1.0], &[0.25]);
    }
}

/// Memory is reused: nothing of a longer sequence may reach a shorter one, nor of one layout another.
#[test]
fn reuse_leaves_no_trace() {
    let weights = Weights::new(&[1; 16], 1, vec![1.0; 2], vec![0.0; 2]).unwrap();
    for kernel in Kernel::all() {
        let mut reused = Activations::default();
        for tokens in [17, 1, 8, 3] {
            let x: Vec<f32> = (0..8 * tokens).map(|i| (i as f32).sin()).collect();
            let run = |activations: &mut Activations| {
                let mut out = vec![0.0; 2 * tokens];
                kernel.quantise(&x, 8, tokens, activations);
                kernel.multiply(activations, &weights, &mut out);
                out
            };
            assert_eq!(run(&mut reused), run(&mut Activations::default()), "{}", kernel.name());
        }
    }
}

#[test]
fn unusable_weights_are_refused() {
    let new = |integers: &[i8], groups, outputs| {
        Weights::new(integers, groups, vec![1.0; outputs], vec![0.0; outputs])
    };
    assert_eq!(new(&[64, 65, 0, 0], 1, 1), Err(WeightsError::TooLarge(0)));
    assert_eq!(new(&[0, 0, 0, 0, 0, 0, -128, -1], 1, 2), Err(WeightsError::TooLarge(1)));
    assert!(new(&[-128, 0, 64, -64], 1, 1).is_ok());
    assert_eq!(new(&[1; 6], 1, 1), Err(WeightsError::Depth(6)));
    assert_eq!(new(&[1; 12], 2, 3), Err(WeightsError::Groups { outputs: 3, groups: 2 }));
    assert_eq!(new(&[1; 9], 1, 2), Err(WeightsError::Sizes));
}

#[test]
fn the_portable_kernel_is_always_there() {
    assert_eq!(Kernel::all().last().map(|kernel| kernel.name()), Some("portable"));
    assert_eq!(Kernel::named("portable").map(Kernel::name), Some("portable"));
    assert_eq!(Kernel::named("abacus"), None);
}

proptest! {
    #[test]
    fn any_finite_values_are_exact(
        tokens in 1_usize..20,
        values in prop::collection::vec(-1e6_f32..1e6, 16),
        integers in prop::collection::vec(-64_i8..=64, 16),
    ) {
        let x: Vec<f32> = (0..8 * tokens).map(|i| values[i % 16] * (i as f32 * 0.37).cos()).collect();
        check(&x, tokens, &integers, 1, &[0.5, 3e-4], &[0.1, -7.0]);
    }
}
