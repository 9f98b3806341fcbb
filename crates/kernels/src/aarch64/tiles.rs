//! Integer products of each instruction set.

use std::arch::aarch64::{
    int8x8_t, int8x16_t, int32x4_t, vcombine_s8, vcombine_s32, vdup_n_s8, vdupq_laneq_s32, vdupq_n_s8,
    vdupq_n_s16, vdupq_n_s32, vget_high_s32, vget_low_s8, vget_low_s32, vld1_s8, vld1q_s8, vmlal_high_s8,
    vmlal_s8, vmull_high_s8, vmull_s8, vpadalq_s16, vpaddq_s32, vreinterpretq_s8_s32, vreinterpretq_s32_s8,
    vst1q_s32, vzip1q_s32, vzip2q_s32,
};
use std::arch::asm;

use super::Neon8;
use crate::lanes::{Channels, OUTPUTS, Quad, Tile};
use crate::pack;

pub(crate) struct NeonTile;
pub(crate) struct DotprodTile;
pub(crate) struct I8mmTile;

/// Registers of a quad: four outputs each.
const PARTS: usize = OUTPUTS / 4;

/// Quads whose channels of one token fill a register.
const QUADS: usize = 4;

/// Four channels of four outputs.
#[inline(always)]
fn load_part(quad: &Quad, part: usize) -> int8x16_t {
    let outputs = &quad.as_chunks::<4>().0[part];
    // SAFETY: every aarch64 CPU has NEON; four outputs are sixteen readable bytes.
    unsafe { vld1q_s8(outputs.as_ptr().cast()) }
}

/// The channels of a token that belong to four quads.
#[inline(always)]
fn load_channels(channels: &[Channels; QUADS]) -> int8x16_t {
    // SAFETY: as above; four channels of four quads are sixteen readable bytes.
    unsafe { vld1q_s8(channels.as_ptr().cast()) }
}

/// Four channels of a token, in every quarter.
#[inline(always)]
fn broadcast(channels: Channels) -> int8x16_t {
    // SAFETY: every aarch64 CPU has NEON.
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(i32::from_le_bytes(channels))) }
}

/// The same for each of four quads, with one load.
#[inline(always)]
fn broadcast_each(channels: &[Channels; QUADS]) -> [int8x16_t; QUADS] {
    // SAFETY: every aarch64 CPU has NEON.
    unsafe {
        let x = vreinterpretq_s32_s8(load_channels(channels));
        [
            vreinterpretq_s8_s32(vdupq_laneq_s32::<0>(x)),
            vreinterpretq_s8_s32(vdupq_laneq_s32::<1>(x)),
            vreinterpretq_s8_s32(vdupq_laneq_s32::<2>(x)),
            vreinterpretq_s8_s32(vdupq_laneq_s32::<3>(x)),
        ]
    }
}

/// Rows of the length of the weights, in chunks of `Q` quads, and what is left of them. The length is one for all: the
/// compiler then checks no index in the loop.
#[inline(always)]
fn split<const N: usize, const Q: usize>(
    rows: [&[Channels]; N],
    length: usize,
) -> [(&[[Channels; Q]], &[Channels]); N] {
    rows.map(
        #[inline(always)]
        |row| row[..length].as_chunks(),
    )
}

#[inline(always)]
fn store_part(outputs: int32x4_t, part: usize, to: &mut [i32; OUTPUTS]) {
    let to = &mut to.as_chunks_mut::<4>().0[part];
    // SAFETY: every aarch64 CPU has NEON; `to` is sixteen writable bytes.
    unsafe { vst1q_s32(to.as_mut_ptr(), outputs) };
}

impl Tile for NeonTile {
    type Floats = Neon8;
    const UNSIGNED: bool = false;
    const TOKENS: usize = 2;

    #[inline(always)]
    unsafe fn sums<const N: usize>(
        _start: &[i32; OUTPUTS],
        rows: [&[Channels]; N],
        quads: &[Quad],
    ) -> [[i32; OUTPUTS]; N] {
        let (whole, rest) = quads.as_chunks::<QUADS>();
        let rows = split(rows, quads.len());
        let mut numbers = [[0; OUTPUTS]; N];
        // Half of the outputs, then the other half: sums, channels and 16-bit products of all need more registers than
        // there are.
        for half in 0..2 {
            // Two lanes for each output: the sums of its first and of its last two channels of all quads.
            // SAFETY: every aarch64 CPU has NEON; so below.
            let mut sums = [[unsafe { vdupq_n_s32(0) }; PARTS]; N];
            for index in 0..whole.len() {
                let channels = rows.map(
                    #[inline(always)]
                    |(whole, _)| broadcast_each(&whole[index]),
                );
                multiply_add(&mut sums, &whole[index], half, channels);
            }
            for index in 0..rest.len() {
                let channels = rows.map(
                    #[inline(always)]
                    |(_, rest)| [broadcast(rest[index])],
                );
                multiply_add(&mut sums, std::array::from_ref(&rest[index]), half, channels);
            }
            for n in 0..N {
                for part in 0..PARTS / 2 {
                    // SAFETY: as above.
                    let outputs = unsafe { vpaddq_s32(sums[n][2 * part], sums[n][2 * part + 1]) };
                    store_part(outputs, PARTS / 2 * half + part, &mut numbers[n]);
                }
            }
        }
        numbers
    }
}

/// Adds the products of up to four quads with one half of their outputs: as many as 16 bits have room for.
#[inline(always)]
fn multiply_add<const N: usize, const Q: usize>(
    sums: &mut [[int32x4_t; PARTS]; N],
    quads: &[Quad; Q],
    half: usize,
    channels: [[int8x16_t; Q]; N],
) {
    const { assert!(Q * pack::LIMIT as usize * 127 <= i16::MAX as usize) };
    for part in 0..PARTS / 2 {
        // SAFETY: every aarch64 CPU has NEON.
        unsafe {
            let mut products = [[vdupq_n_s16(0); 2]; N];
            for q in 0..Q {
                let weights = load_part(&quads[q], PARTS / 2 * half + part);
                for n in 0..N {
                    let (x, [low, high]) = (channels[n][q], products[n]);
                    products[n] = if q == 0 {
                        [vmull_s8(vget_low_s8(x), vget_low_s8(weights)), vmull_high_s8(x, weights)]
                    } else {
                        [vmlal_s8(low, vget_low_s8(x), vget_low_s8(weights)), vmlal_high_s8(high, x, weights)]
                    };
                }
            }
            for n in 0..N {
                for side in 0..2 {
                    sums[n][2 * part + side] = vpadalq_s16(sums[n][2 * part + side], products[n][side]);
                }
            }
        }
    }
}

impl Tile for DotprodTile {
    type Floats = Neon8;
    const UNSIGNED: bool = false;
    const TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn sums<const N: usize>(
        _start: &[i32; OUTPUTS],
        rows: [&[Channels]; N],
        quads: &[Quad],
    ) -> [[i32; OUTPUTS]; N] {
        let (whole, rest) = quads.as_chunks::<QUADS>();
        let rows = split(rows, quads.len());
        // SAFETY: every aarch64 CPU has NEON.
        let mut sums = [[unsafe { vdupq_n_s32(0) }; PARTS]; N];
        for index in 0..whole.len() {
            let [a, b, c, d] = &whole[index];
            let channels = rows.map(
                #[inline(always)]
                |(whole, _)| load_channels(&whole[index]),
            );
            // SAFETY: the caller has dotprod.
            unsafe {
                dot::<N, 0>(&mut sums, a, channels);
                dot::<N, 1>(&mut sums, b, channels);
                dot::<N, 2>(&mut sums, c, channels);
                dot::<N, 3>(&mut sums, d, channels);
            }
        }
        for index in 0..rest.len() {
            let channels = rows.map(
                #[inline(always)]
                |(_, rest)| broadcast(rest[index]),
            );
            // SAFETY: the caller has dotprod.
            unsafe { dot::<N, 0>(&mut sums, &rest[index], channels) };
        }
        let mut numbers = [[0; OUTPUTS]; N];
        for n in 0..N {
            for part in 0..PARTS {
                store_part(sums[n][part], part, &mut numbers[n]);
            }
        }
        numbers
    }
}

/// Adds the products of a quad with one quarter of each token's register.
///
/// # Safety
/// The CPU must have dotprod.
#[inline(always)]
unsafe fn dot<const N: usize, const QUARTER: usize>(
    sums: &mut [[int32x4_t; PARTS]; N],
    quad: &Quad,
    channels: [int8x16_t; N],
) {
    for part in 0..PARTS {
        let weights = load_part(quad, part);
        for n in 0..N {
            // SAFETY: the caller has dotprod; the instruction reads and writes its registers only.
            unsafe {
                asm!(
                    ".arch_extension dotprod",
                    "sdot {sum:v}.4s, {weights:v}.16b, {x:v}.4b[{quarter}]",
                    sum = inout(vreg) sums[n][part],
                    weights = in(vreg) weights,
                    x = in(vreg) channels[n],
                    quarter = const QUARTER,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
        }
    }
}

/// Pairs of tokens that are multiplied together.
const PAIRS: usize = I8mmTile::TOKENS.div_ceil(2);

impl Tile for I8mmTile {
    type Floats = Neon8;
    const UNSIGNED: bool = false;
    const TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn sums<const N: usize>(
        _start: &[i32; OUTPUTS],
        rows: [&[Channels]; N],
        quads: &[Quad],
    ) -> [[i32; OUTPUTS]; N] {
        let (whole, rest) = quads.as_chunks::<2>();
        let rows = split(rows, quads.len());
        // Two outputs of a pair's first token, then of its second.
        // SAFETY: every aarch64 CPU has NEON.
        let mut sums = [[unsafe { vdupq_n_s32(0) }; OUTPUTS / 2]; PAIRS];
        for index in 0..whole.len() {
            let [a, b] = &whole[index];
            let channels = rows.map(
                #[inline(always)]
                |(whole, _)| eight(whole[index]),
            );
            // SAFETY: the caller has i8mm.
            unsafe { multiply_matrices(&mut sums, a, b, channels) };
        }
        for index in 0..rest.len() {
            let channels = rows.map(
                #[inline(always)]
                |(_, rest)| eight([rest[index], [0; 4]]),
            );
            // SAFETY: the caller has i8mm.
            unsafe { multiply_matrices(&mut sums, &rest[index], &Quad::default(), channels) };
        }
        let mut numbers = [[0; OUTPUTS]; N];
        for n in 0..N {
            for part in 0..PARTS {
                let [a, b] = [sums[n / 2][2 * part], sums[n / 2][2 * part + 1]];
                // SAFETY: every aarch64 CPU has NEON.
                let outputs = unsafe {
                    if n % 2 == 0 {
                        vcombine_s32(vget_low_s32(a), vget_low_s32(b))
                    } else {
                        vcombine_s32(vget_high_s32(a), vget_high_s32(b))
                    }
                };
                store_part(outputs, part, &mut numbers[n]);
            }
        }
        numbers
    }
}

/// Eight channels of a token.
#[inline(always)]
fn eight(channels: [Channels; 2]) -> int8x8_t {
    // SAFETY: every aarch64 CPU has NEON; the channels are eight readable bytes.
    unsafe { vld1_s8(channels.as_ptr().cast()) }
}

/// Adds the products of two neighbouring quads with each token's eight channels. A last token without another one to
/// go with is paired with zeros.
///
/// # Safety
/// The CPU must have i8mm.
#[inline(always)]
unsafe fn multiply_matrices<const N: usize>(
    sums: &mut [[int32x4_t; OUTPUTS / 2]; PAIRS],
    first: &Quad,
    second: &Quad,
    channels: [int8x8_t; N],
) {
    // SAFETY: the caller has i8mm; the instruction reads and writes its registers only.
    unsafe {
        let mut pairs = [vdupq_n_s8(0); PAIRS];
        for (pair, tokens) in pairs.iter_mut().zip(channels.chunks(2)) {
            *pair = vcombine_s8(tokens[0], *tokens.get(1).unwrap_or(&vdup_n_s8(0)));
        }
        for part in 0..PARTS {
            let a = vreinterpretq_s32_s8(load_part(first, part));
            let b = vreinterpretq_s32_s8(load_part(second, part));
            // Eight channels of two outputs each.
            for (half, weights) in [vzip1q_s32(a, b), vzip2q_s32(a, b)].into_iter().enumerate() {
                for pair in 0..N.div_ceil(2) {
                    asm!(
                        ".arch_extension i8mm",
                        "smmla {sum:v}.4s, {x:v}.16b, {weights:v}.16b",
                        sum = inout(vreg) sums[pair][2 * part + half],
                        x = in(vreg) pairs[pair],
                        weights = in(vreg) weights,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
            }
        }
    }
}
