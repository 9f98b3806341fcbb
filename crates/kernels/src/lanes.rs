//! What a product needs of an instruction set: sixteen outputs of one token at a time.

/// Outputs that are computed together, and the width of a block of packed weights.
pub(crate) const OUTPUTS: usize = 16;

/// Weights of one block: four neighbouring channels of each of its outputs.
pub(crate) type Quad = [[i8; 4]; OUTPUTS];

/// Sums of integer products for the outputs of a block, in whatever registers the instruction set has.
///
/// # Safety
/// The methods may use instructions that the CPU must have: they are called only inside the `run` of the type that has
/// found them.
pub(crate) trait Lanes {
    /// i32 sums of a block.
    type Sums: Copy;
    /// Weights of a quad in registers.
    type Weights: Copy;
    /// Whether activations are u8 with zero point 128 instead of s8.
    const UNSIGNED: bool;
    /// Tokens that share one load of weights: as many as the registers hold sums for.
    const TOKENS: usize;

    /// Sums of nothing.
    unsafe fn zero() -> Self::Sums;
    /// Loads a quad.
    unsafe fn load(quad: &Quad) -> Self::Weights;
    /// Adds the products of four channels of one token, the first in the lowest byte, with a quad.
    unsafe fn add(sums: Self::Sums, weights: Self::Weights, channels: u32) -> Self::Sums;
    /// The sums as numbers.
    unsafe fn store(sums: Self::Sums) -> [i32; OUTPUTS];
}

/// Plain Rust, for every CPU.
pub(crate) struct Portable;

impl Lanes for Portable {
    type Sums = [i32; OUTPUTS];
    type Weights = Quad;
    const UNSIGNED: bool = false;
    const TOKENS: usize = 1;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        [0; OUTPUTS]
    }

    #[inline(always)]
    unsafe fn load(quad: &Quad) -> Quad {
        *quad
    }

    #[inline(always)]
    unsafe fn add(mut sums: Self::Sums, weights: Quad, channels: u32) -> Self::Sums {
        let channels = channels.to_le_bytes().map(|channel| i32::from(channel as i8));
        for (sum, weights) in sums.iter_mut().zip(weights) {
            for (channel, weight) in channels.into_iter().zip(weights) {
                *sum += channel * i32::from(weight);
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums) -> [i32; OUTPUTS] {
        sums
    }
}
