//! `products KERNEL PASSES`: the six products of one encoder layer of the default size, for 12 tokens, so many times.

use std::process::ExitCode;

use intentd_kernels::{Activations, Kernel, Then, Weights};

const TOKENS: usize = 12;

/// Inputs, outputs and groups: query, key, value; what follows attention; the two of the feed-forward network.
const PRODUCTS: [(usize, usize, usize); 6] =
    [(384, 384, 4), (384, 384, 4), (384, 384, 4), (384, 384, 1), (384, 1536, 4), (1536, 384, 4)];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, passes] = arguments.as_slice() else {
        eprintln!("products KERNEL PASSES");
        return ExitCode::from(2);
    };
    let (Some(kernel), Ok(passes)) = (Kernel::named(kernel), passes.parse::<usize>()) else {
        eprintln!("products: this CPU has no kernel {kernel}, or {passes} is no number");
        return ExitCode::FAILURE;
    };
    let mut products = PRODUCTS.map(|(inputs, outputs, groups)| {
        let integers: Vec<i8> = (0..outputs * inputs / groups).map(|i| (i * 37 % 129) as i8 - 64).collect();
        let weights = Weights::new(&integers, groups, vec![1e-3; outputs], vec![0.5; outputs]);
        let mut activations = Activations::default();
        let x: Vec<f32> = (0..TOKENS * inputs).map(|i| (i as f32).sin()).collect();
        kernel.quantise(&x, inputs, &mut activations);
        (weights.expect("these weights are valid"), activations, vec![0.0; TOKENS * outputs])
    });
    for _ in 0..passes {
        for (weights, activations, out) in &mut products {
            kernel.multiply(activations, weights, Then::Store, out);
        }
    }
    ExitCode::SUCCESS
}
