//! Instruction sets of 64-bit ARM. Every such CPU has NEON: `smull` multiplies eight bytes into 16 bits, `sadalp` adds
//! neighbours into 32 bits. `sdot` (dotprod; Raspberry Pi 5, most phones since 2018) sums four products per lane at
//! once; stable Rust has no intrinsic for it, so it is written as assembly.

use std::arch::aarch64::{
    int8x16_t, int32x4_t, vaddq_s32, vdupq_n_s32, vget_low_s8, vld1q_s8, vmull_high_s8, vmull_s8,
    vpaddlq_s16, vpaddq_s32, vreinterpretq_s8_s32, vst1q_s32,
};
use std::arch::{asm, is_aarch64_feature_detected};

use crate::lanes::{Lanes, OUTPUTS, Quad};

/// Registers of four outputs.
const PARTS: usize = OUTPUTS / 4;

/// NEON, which aarch64 always has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neon(());

impl Neon {
    pub(crate) fn new() -> Option<Self> {
        Some(Self(()))
    }

    /// The target has NEON by default, so nothing is to be enabled.
    #[inline(always)]
    pub(crate) fn run(self, work: impl FnOnce()) {
        work();
    }
}

/// Proof that the CPU has dot products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dotprod(());

impl Dotprod {
    pub(crate) fn new() -> Option<Self> {
        is_aarch64_feature_detected!("dotprod").then_some(Self(()))
    }

    /// Everything that is inlined into `work` is compiled for this set.
    #[inline(always)]
    pub(crate) fn run(self, work: impl FnOnce()) {
        #[target_feature(enable = "neon,dotprod")]
        fn inner(work: impl FnOnce()) {
            work();
        }
        // SAFETY: a value of this type exists only where `new` has found the feature.
        unsafe { inner(work) }
    }
}

pub(crate) struct NeonLanes;
pub(crate) struct DotprodLanes;

#[inline(always)]
unsafe fn load_parts(quad: &Quad) -> [int8x16_t; PARTS] {
    let start = quad.as_ptr().cast::<i8>();
    // SAFETY: a quad is 64 readable bytes, four registers.
    std::array::from_fn(|part| unsafe { vld1q_s8(start.add(16 * part)) })
}

#[inline(always)]
unsafe fn store_parts(parts: [int32x4_t; PARTS]) -> [i32; OUTPUTS] {
    let mut out = [0; OUTPUTS];
    for (out, part) in out.as_chunks_mut::<4>().0.iter_mut().zip(parts) {
        // SAFETY: `out` is sixteen writable bytes.
        unsafe { vst1q_s32(out.as_mut_ptr(), part) };
    }
    out
}

impl Lanes for NeonLanes {
    /// Two lanes for each output: the sums of its first and of its last two channels of all quads.
    type Sums = [int32x4_t; 2 * PARTS];
    type Weights = [int8x16_t; PARTS];
    const UNSIGNED: bool = false;
    const TOKENS: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        // SAFETY: every aarch64 CPU has NEON.
        unsafe { [vdupq_n_s32(0); 2 * PARTS] }
    }

    #[inline(always)]
    unsafe fn load(quad: &Quad) -> Self::Weights {
        // SAFETY: as above.
        unsafe { load_parts(quad) }
    }

    #[inline(always)]
    unsafe fn add(mut sums: Self::Sums, weights: Self::Weights, channels: u32) -> Self::Sums {
        // SAFETY: as above.
        unsafe {
            let x = vreinterpretq_s8_s32(vdupq_n_s32(channels as i32));
            for (part, weights) in weights.into_iter().enumerate() {
                let low = vpaddlq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(weights)));
                let high = vpaddlq_s16(vmull_high_s8(x, weights));
                sums[2 * part] = vaddq_s32(sums[2 * part], low);
                sums[2 * part + 1] = vaddq_s32(sums[2 * part + 1], high);
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums) -> [i32; OUTPUTS] {
        // SAFETY: as above.
        unsafe { store_parts(std::array::from_fn(|part| vpaddq_s32(sums[2 * part], sums[2 * part + 1]))) }
    }
}

impl Lanes for DotprodLanes {
    type Sums = [int32x4_t; PARTS];
    type Weights = [int8x16_t; PARTS];
    const UNSIGNED: bool = false;
    const TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        // SAFETY: every aarch64 CPU has NEON.
        unsafe { [vdupq_n_s32(0); PARTS] }
    }

    #[inline(always)]
    unsafe fn load(quad: &Quad) -> Self::Weights {
        // SAFETY: as above.
        unsafe { load_parts(quad) }
    }

    #[inline(always)]
    unsafe fn add(mut sums: Self::Sums, weights: Self::Weights, channels: u32) -> Self::Sums {
        // SAFETY: the caller has dotprod; the instruction reads and writes its registers only.
        unsafe {
            let x = vreinterpretq_s8_s32(vdupq_n_s32(channels as i32));
            for (sum, weights) in sums.iter_mut().zip(weights) {
                asm!(
                    ".arch_extension dotprod",
                    "sdot {sum:v}.4s, {weights:v}.16b, {x:v}.16b",
                    sum = inout(vreg) *sum,
                    weights = in(vreg) weights,
                    x = in(vreg) x,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums) -> [i32; OUTPUTS] {
        // SAFETY: every aarch64 CPU has NEON.
        unsafe { store_parts(sums) }
    }
}
