//! Steps in f32 within the bounds that their documentation states, and alike to the bit.

use super::*;

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
fn gelu_is_as_exact_as_it_says() {
    let inputs = padded(finite(30.0));
    for kernel in Kernel::all() {
        let mut outputs = inputs.clone();
        gelu(kernel, &mut outputs);
        for (x, got) in inputs.iter().map(|x| f64::from(*x)).zip(outputs) {
            let exact = 0.5 * x * (1.0 + exact_erf(x / std::f64::consts::SQRT_2));
            let error = (f64::from(got) - exact).abs();
            assert!(error <= 1e-5 * x.abs() + 1e-45, "{}: gelu({x}) is {got}, not {exact}", kernel.name());
        }
    }
}

#[test]
fn exp_is_as_exact_as_it_says() {
    let inputs = padded(finite(87.0).filter(|x| *x <= 0.0).chain([-88.0, -1e30, f32::NEG_INFINITY, 0.0]));
    for kernel in Kernel::all() {
        let mut outputs = inputs.clone();
        exp(kernel, &mut outputs);
        for (x, got) in inputs.iter().copied().zip(outputs) {
            if x < -87.0 {
                assert!((0.0..2e-38).contains(&got), "{}: exp({x}) is {got}", kernel.name());
                continue;
            }
            let exact = f64::from(x).exp();
            let error = (f64::from(got) / exact - 1.0).abs();
            assert!(error <= 2e-7, "{}: exp({x}) is {got}, not {exact}", kernel.name());
            assert!(x != 0.0 || got == 1.0);
        }
    }
}

#[test]
fn layer_norm_is_its_definition() {
    for channels in [8, 16, 24, 48, 384] {
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

/// The rounding of the portable kernel is that of the instruction, at every cancellation and in every range.
#[test]
fn the_portable_multiply_add_rounds_once() {
    let mut numbers = (1_u64..).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).map(|n| (n >> 20) as u32);
    let mut next = || numbers.next().unwrap();
    for _ in 0..300_000 {
        let (a, b) = (f32::from_bits(next()), f32::from_bits(next()));
        // Anything; what nearly cancels the product; what lies half a last place beside it.
        let beside = f32::from_bits(((-a * b).to_bits()).wrapping_add(next() % 9).wrapping_sub(4));
        for c in [f32::from_bits(next()), beside, a * b * 2_f32.powi(-24), a * b * 2_f32.powi(24)] {
            let (got, exact) = (times_plus(a, b, c), a.mul_add(b, c));
            assert!(
                got.to_bits() == exact.to_bits() || got.is_nan() && exact.is_nan(),
                "{a:e} x {b:e} + {c:e}: {got:e}"
            );
        }
    }
}
