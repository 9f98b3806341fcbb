//! What a product needs of an instruction set: integer sums for a block of sixteen outputs, of a few tokens at a time.

use crate::floats::{Floats, Portable8};

/// Outputs that are computed together, and the width of a block of packed weights.
pub(crate) const OUTPUTS: usize = 16;

/// Weights of one block: four neighbouring channels of each of its outputs.
pub(crate) type Quad = [[i8; 4]; OUTPUTS];

/// The proof that the CPU has what a tile needs for its f32.
pub(crate) type Cpu<T> = <<T as Tile>::Floats as Floats>::Cpu;

/// Four neighbouring channels of a token, s8 or u8 with zero point 128.
pub(crate) type Channels = [u8; 4];

/// The inner loop of a product.
///
/// # Safety
/// It may use instructions that the CPU must have: it is called only inside the `run` of the type that has found them.
pub(crate) trait Tile {
    /// What its f32 steps are computed in.
    type Floats: Floats;
    /// Whether activations are u8 with zero point 128 instead of s8.
    const UNSIGNED: bool;
    /// Tokens that share one load of weights: as many as keep the multipliers busy and as the registers hold sums for,
    /// at most eight.
    const TOKENS: usize;

    /// Sums of the products of each token's channels with the weights of a block, from `start` on, which is zero unless
    /// `UNSIGNED`. Rows are at least as long as weights.
    unsafe fn sums<const N: usize>(
        start: &[i32; OUTPUTS],
        rows: [&[Channels]; N],
        quads: &[Quad],
    ) -> [[i32; OUTPUTS]; N];

    /// Asks for weights that come next. The CPU guesses them too, but stops at each page.
    #[inline(always)]
    fn prefetch(_quads: &[Quad]) {}
}

/// An instruction set whose registers hold some outputs of one token, which makes a [`Tile`] of it.
///
/// # Safety
/// As for [`Tile`].
pub(crate) trait Lanes {
    /// i32 sums of a block.
    type Sums: Copy;
    /// Weights of a quad in registers.
    type Weights: Copy;
    type Floats: Floats;
    const UNSIGNED: bool;
    const TOKENS: usize;

    /// Sums to begin with; zero unless `UNSIGNED`.
    unsafe fn start(sums: &[i32; OUTPUTS]) -> Self::Sums;
    /// Loads a quad.
    unsafe fn load(quad: &Quad) -> Self::Weights;
    /// Adds the products of four channels of one token, the first in the lowest byte, with a quad.
    unsafe fn add(sums: Self::Sums, weights: Self::Weights, channels: u32) -> Self::Sums;
    /// As [`Tile::prefetch`].
    #[inline(always)]
    fn prefetch(_quads: &[Quad]) {}
    /// The sums as numbers.
    unsafe fn store(sums: Self::Sums) -> [i32; OUTPUTS];
}

impl<L: Lanes> Tile for L {
    #[inline(always)]
    fn prefetch(quads: &[Quad]) {
        L::prefetch(quads);
    }

    type Floats = L::Floats;
    const UNSIGNED: bool = L::UNSIGNED;
    const TOKENS: usize = L::TOKENS;

    #[inline(always)]
    unsafe fn sums<const N: usize>(
        start: &[i32; OUTPUTS],
        rows: [&[Channels]; N],
        quads: &[Quad],
    ) -> [[i32; OUTPUTS]; N] {
        // One length for all: the compiler then checks no index in the loop.
        let rows = rows.map(
            #[inline(always)]
            |row| &row[..quads.len()],
        );
        let mut numbers = [[0; OUTPUTS]; N];
        // SAFETY: the caller has the instruction set.
        unsafe {
            let mut sums = [L::start(start); N];
            for (index, quad) in quads.iter().enumerate() {
                let weights = L::load(quad);
                for n in 0..N {
                    sums[n] = L::add(sums[n], weights, u32::from_le_bytes(rows[n][index]));
                }
            }
            for n in 0..N {
                numbers[n] = L::store(sums[n]);
            }
        }
        numbers
    }
}

/// Plain Rust, for every CPU.
pub(crate) struct Portable;

impl Lanes for Portable {
    type Floats = Portable8;
    type Sums = [i32; OUTPUTS];
    type Weights = Quad;
    const UNSIGNED: bool = false;
    const TOKENS: usize = 1;

    #[inline(always)]
    unsafe fn start(sums: &[i32; OUTPUTS]) -> Self::Sums {
        *sums
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
