//! Every case on every kernel that the machine has, against loops a child can check: products exactly, f32 steps within
//! the bounds that their documentation states, and all kernels alike to the bit.

use proptest::prelude::*;

use crate::rows::{erf, exp, gelu};
use crate::{Activations, Attention, Kernel, Norm, Then, Weights, WeightsError};

/// Row scale and integers of one token, as the definition says.
fn quantise_token(values: &[f32]) -> (f32, Vec<i8>) {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = (largest * (1.0 / 127.0)).max(1e-8);
    (scale, values.iter().map(|value| (value / scale).round_ties_even() as i8).collect())
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

#[test]
fn products_are_exact_around_every_tile_edge() {
    for tokens in [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 17, 33] {
        for depth in [4, 8, 28, 36, 96] {
            for per_group in [1, 3, 15, 16, 17, 48] {
                for groups in [1, 2, 4] {
                    check_random((tokens * depth + per_group) as u64, tokens, depth, per_group, groups);
                }
            }
        }
    }
}

#[test]
fn the_sizes_of_the_encoder_are_exact() {
    for (depth, per_group, groups) in [(96, 96, 4), (384, 384, 1), (96, 384, 4), (384, 96, 4), (384, 109, 1)]
    {
        check_random(7, 12, depth, per_group, groups);
    }
}

/// Every activation at its limit and every weight at its own: 16-bit sums that saturate would show.
#[test]
fn extreme_values_do_not_saturate() {
    let depth = 1536;
    for signs in 0..16 {
        let sign = |bit: usize| if signs >> bit & 1 == 0 { 1 } else { -1 };
        let row: Vec<f32> = (0..depth).map(|k| sign(k % 2) as f32).collect();
        let integers: Vec<i8> = (0..depth).map(|k| 64 * sign(2 + k % 2) as i8).collect();
        check(&row.repeat(9), 9, &integers, 1, &[1.0], &[0.0]);
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
        kernel.quantise(&values, 8, &mut activations);
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

/// Memory is reused: nothing of a longer sequence may reach a shorter one.
#[test]
fn reuse_leaves_no_trace() {
    let weights = Weights::new(&[1; 16], 1, vec![1.0; 2], vec![0.0; 2]).unwrap();
    for kernel in Kernel::all() {
        let mut reused = Activations::default();
        for tokens in [17, 1, 8, 3] {
            let x: Vec<f32> = (0..8 * tokens).map(|i| (i as f32).sin()).collect();
            let run = |activations: &mut Activations| {
                let mut out = vec![0.0; 2 * tokens];
                kernel.quantise(&x, 8, activations);
                kernel.multiply(activations, &weights, Then::Store, &mut out);
                out
            };
            assert_eq!(run(&mut reused), run(&mut Activations::default()), "{}", kernel.name());
        }
    }
}

#[test]
fn what_follows_a_product_is_what_it_says() {
    for per_group in [16, 21] {
        let (integers, scales, biases) = random_weights(3, 32, per_group, 2);
        let weights = Weights::new(&integers, 2, scales, biases).unwrap();
        let (x, residual) = (values(4, 64 * 7), values(5, weights.outputs() * 7));
        for kernel in Kernel::all() {
            let mut activations = Activations::default();
            kernel.quantise(&x, 64, &mut activations);
            let run = |then| {
                let mut out = vec![0.0; weights.outputs() * 7];
                kernel.multiply(&activations, &weights, then, &mut out);
                out
            };
            let plain = run(Then::Store);
            assert_eq!(
                run(Then::Gelu),
                plain.iter().map(|&y| gelu(y)).collect::<Vec<_>>(),
                "{}",
                kernel.name()
            );
            let sums: Vec<f32> = plain.iter().zip(&residual).map(|(y, x)| y + x).collect();
            assert_eq!(run(Then::Add(&residual)), sums, "{}", kernel.name());
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

/// Every f32 from a quarter of the smallest step on, in steps of five thousand.
fn finite(limit: f32) -> impl Iterator<Item = f32> {
    (0..limit.to_bits()).step_by(4999).map(f32::from_bits).flat_map(|x| [x, -x])
}

/// The error function in f64: its Taylor series about 0, and the continued fraction of its complement beyond 3.
fn exact_erf(x: f64) -> f64 {
    if x.abs() > 3.0 {
        let mut fraction = 0.0;
        for k in (1..60).rev() {
            fraction = f64::from(k) / 2.0 / (x.abs() + fraction);
        }
        let complement = (-x * x).exp() / ((x.abs() + fraction) * std::f64::consts::PI.sqrt());
        return x.signum() * (1.0 - complement);
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn erf_and_gelu_are_as_exact_as_they_say() {
    for x in finite(30.0) {
        let exact = exact_erf(f64::from(x));
        assert!((f64::from(erf(x)) - exact).abs() <= 5e-7, "erf({x}) is {}, not {exact}", erf(x));
        let x64 = f64::from(x);
        let exact = 0.5 * x64 * (1.0 + exact_erf(x64 / std::f64::consts::SQRT_2));
        let error = (f64::from(gelu(x)) - exact).abs();
        assert!(error <= 5e-7 * (1.0 + x64.abs()), "gelu({x}) is {}, not {exact}", gelu(x));
    }
}

#[test]
fn exp_is_as_exact_as_it_says() {
    for x in finite(87.0).filter(|x| *x <= 0.0) {
        let exact = f64::from(x).exp();
        let error = (f64::from(exp(x)) / exact - 1.0).abs();
        assert!(error <= 2e-7, "exp({x}) is {}, not {exact}", exp(x));
    }
    for x in [-88.0, -1e30, f32::NEG_INFINITY] {
        assert!(exp(x) < 2e-38 && exp(x) >= 0.0, "exp({x}) is {}", exp(x));
    }
    assert_eq!(exp(0.0), 1.0);
}

#[test]
fn layer_norm_is_its_definition() {
    for channels in [1, 7, 8, 48, 384] {
        let (weight, bias) = (values(1, channels), values(2, channels));
        let x = values(3, 5 * channels);
        let norm = Norm::new(weight.clone(), bias.clone(), 1e-5);
        let mut expected = Vec::new();
        for row in x.chunks_exact(channels) {
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / channels as f64;
            let variance = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / channels as f64;
            let factor = 1.0 / (variance + 1e-5).sqrt();
            let parameters = weight.iter().zip(&bias);
            expected.extend(
                row.iter()
                    .zip(parameters)
                    .map(|(&v, (&w, &b))| (f64::from(v) - mean) * factor * f64::from(w) + f64::from(b)),
            );
        }
        for kernel in Kernel::all() {
            let mut got = x.clone();
            kernel.normalise(&norm, &mut got);
            for (got, expected) in got.iter().zip(&expected) {
                assert!(
                    (f64::from(*got) - expected).abs() <= 2e-5,
                    "{}: {got}, not {expected}",
                    kernel.name()
                );
            }
        }
    }
}

/// Attention of the whole batch, on one kernel.
fn attend(kernel: Kernel, heads: usize, channels: usize, lengths: &[usize], qkv: [&[f32]; 3]) -> Vec<f32> {
    let mut attention = Attention::new(heads, channels);
    let mut context = vec![f32::NAN; qkv[0].len()];
    let mut start = 0;
    for length in lengths {
        kernel.attend(&mut attention, start..start + length, qkv, &mut context);
        start += length;
    }
    context
}

#[test]
fn attention_is_its_definition_within_each_sequence() {
    let (heads, channels, lengths) = (2, 32, [3, 1, 8, 13]);
    let total: usize = lengths.iter().sum();
    let [q, k, v] = [10, 11, 12].map(|seed| values(seed, total * channels));
    let size = channels / heads;
    let mut expected = vec![0.0; total * channels];
    let mut start = 0;
    for length in lengths {
        for head in 0..heads {
            let at = |values: &[f32], token: usize, channel: usize| {
                f64::from(values[(start + token) * channels + head * size + channel])
            };
            for i in 0..length {
                let scores: Vec<f64> = (0..length)
                    .map(|j| {
                        (0..size).map(|c| at(&q, i, c) * at(&k, j, c)).sum::<f64>() / (size as f64).sqrt()
                    })
                    .collect();
                let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
                let total: f64 = weights.iter().sum();
                for c in 0..size {
                    let sum: f64 = (0..length).map(|j| weights[j] / total * at(&v, j, c)).sum();
                    expected[(start + i) * channels + head * size + c] = sum;
                }
            }
        }
        start += length;
    }
    let first = attend(Kernel::all()[0], heads, channels, &lengths, [&q, &k, &v]);
    for kernel in Kernel::all() {
        let got = attend(kernel, heads, channels, &lengths, [&q, &k, &v]);
        assert_eq!(got, first, "{}: another value than {}", kernel.name(), Kernel::all()[0].name());
        for (got, expected) in got.iter().zip(&expected) {
            assert!((f64::from(*got) - expected).abs() <= 1e-5, "{}: {got}, not {expected}", kernel.name());
        }
    }
    // A sequence gets the same bits alone.
    let alone = |values: &[f32]| values[4 * channels..12 * channels].to_vec();
    let (q, k, v) = (alone(&q), alone(&k), alone(&v));
    assert_eq!(attend(Kernel::best(), heads, channels, &[8], [&q, &k, &v]), alone(&first));
}

/// Layer norm and GELU too: the f32 steps have one order on every kernel.
#[test]
fn kernels_agree_to_the_bit() {
    let (integers, scales, biases) = random_weights(8, 96, 96, 4);
    let weights = Weights::new(&integers, 4, scales, biases).unwrap();
    let norm = Norm::new(values(1, 384), values(2, 384), 1e-12);
    let results: Vec<Vec<f32>> = Kernel::all()
        .into_iter()
        .map(|kernel| {
            let mut x = values(9, 384 * 11);
            let mut activations = Activations::default();
            for _ in 0..3 {
                kernel.quantise(&x, 384, &mut activations);
                let mut y = vec![0.0; x.len()];
                kernel.multiply(&activations, &weights, Then::Gelu, &mut y);
                kernel.quantise(&y, 384, &mut activations);
                let mut z = vec![0.0; x.len()];
                kernel.multiply(&activations, &weights, Then::Add(&x), &mut z);
                kernel.normalise(&norm, &mut z);
                x = z;
            }
            x
        })
        .collect();
    assert!(results.iter().all(|result| *result == results[0]));
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
