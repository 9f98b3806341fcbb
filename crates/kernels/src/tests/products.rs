//! Products exactly.

use proptest::prelude::*;

use super::*;
use crate::{activations, product};

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
            let mut expected = padded(plain.iter().copied());
            gelu(kernel, &mut expected);
            assert_eq!(run(Then::Gelu), expected[..plain.len()], "{}", kernel.name());
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
    assert_eq!(new(&[0, 0, 0, 0, 0, 0, -128, 0], 1, 2), Err(WeightsError::TooLarge(1)));
    assert!(new(&[0, 0, 64, -64], 1, 1).is_ok());
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

/// An emulated CPU says which kernels it must have: what is not there passes every other test.
#[test]
fn the_expected_kernels_are_there() {
    if let Ok(expected) = std::env::var("INTENTD_EXPECTED_KERNELS") {
        let names: Vec<_> = Kernel::all().into_iter().map(Kernel::name).collect();
        assert_eq!(names.join(" "), expected);
    }
}

/// Tiles as wide as those of instruction sets that this machine may not have, with plain arithmetic.
struct Wide<const TOKENS: usize>;

impl<const N: usize> Tile for Wide<N> {
    type Floats = <lanes::Portable as Tile>::Floats;
    const UNSIGNED: bool = true;
    const TOKENS: usize = N;

    unsafe fn sums<const T: usize>(
        start: &[i32; lanes::OUTPUTS],
        rows: [&[lanes::Channels]; T],
        quads: &[lanes::Quad],
    ) -> [[i32; lanes::OUTPUTS]; T] {
        rows.map(|row| {
            let mut sums = *start;
            for (channels, quad) in row.iter().zip(quads) {
                for (sum, weights) in sums.iter_mut().zip(quad) {
                    let products = channels.iter().zip(weights).map(|(x, w)| i32::from(*x) * i32::from(*w));
                    *sum += products.sum::<i32>();
                }
            }
            sums
        })
    }
}

#[test]
fn every_width_of_tiles_gives_the_same() {
    fn run<T: Tile<Floats = <lanes::Portable as Tile>::Floats>>(x: &[f32], weights: &Weights) -> Vec<f32> {
        let mut activations = Activations::default();
        activations::quantise::<T>((), x, weights.inputs(), &mut activations);
        let mut out = vec![f32::NAN; weights.outputs() * activations.tokens()];
        product::multiply::<T, _>((), &activations, weights, product::Gelu, &mut out);
        out
    }
    for tokens in 1..=20 {
        let (integers, scales, biases) = random_weights(tokens as u64, 24, 37, 2);
        let weights = Weights::new(&integers, 2, scales, biases).unwrap();
        let x = values(tokens as u64, tokens * weights.inputs());
        let expected = run::<lanes::Portable>(&x, &weights);
        assert_eq!(run::<Wide<4>>(&x, &weights), expected, "4 by {tokens} tokens");
        assert_eq!(run::<Wide<6>>(&x, &weights), expected, "6 by {tokens} tokens");
        assert_eq!(run::<Wide<8>>(&x, &weights), expected, "8 by {tokens} tokens");
    }
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
