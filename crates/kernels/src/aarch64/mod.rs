//! Instruction sets of 64-bit ARM, from the oldest to the newest.
//!
//! - NEON, which every such CPU has (all there is on Raspberry Pi 3 and 4): `smull` and `smlal` multiply eight bytes
//!   and add in 16 bits, `sadalp` adds neighbours of those in 32. Weights are at most 64 in magnitude and activations
//!   at most 127, so 16 bits hold the sum of four products: 4 x 64 x 127 = 32,512. One `sadalp` serves four
//!   multiplications.
//! - dotprod (Raspberry Pi 5, most phones since 2018): `sdot` sums four products per lane in 32 bits, and takes the
//!   activations from any quarter of a register.
//! - i8mm (Neoverse V1, Cortex-X2, Cortex-A510 and later): `smmla` multiplies eight channels of two tokens with eight
//!   of two outputs.
//!
//! Stable Rust has no intrinsic for the last two, so they are written as assembly.

mod tiles;

use std::arch::aarch64::{
    float32x2_t, float32x4_t, vabsq_f32, vaddq_f32, vaddq_s32, vcombine_f32, vcvtnq_s32_f32, vcvtq_f32_s32,
    vdivq_f32, vdupq_n_f32, vdupq_n_s32, vdupq_n_u8, veorq_u8, vfmaq_f32, vget_high_f32, vget_low_f32,
    vld1q_f32, vld1q_s32, vmaxq_f32, vminq_f32, vmulq_f32, vpadds_f32, vpmaxs_f32, vqmovn_high_s16,
    vqmovn_high_s32, vqmovn_s16, vqmovn_s32, vreinterpretq_f32_s32, vreinterpretq_s32_f32,
    vreinterpretq_u8_s8, vshlq_n_s32, vst1q_f32, vst1q_u8, vsubq_f32,
};
use std::arch::is_aarch64_feature_detected;

pub(crate) use tiles::{DotprodTile, I8mmTile, NeonTile};

use crate::floats::{BYTES, EXPONENT_BIAS, EXPONENT_SHIFT, Floats, LANES, operators};

/// NEON, which aarch64 always has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neon(());

impl Neon {
    pub(crate) fn new() -> Option<Self> {
        Some(Self(()))
    }

    /// The target has NEON by default, so nothing is to be enabled.
    #[inline(always)]
    pub(crate) fn run(self, work: impl FnOnce(Self)) {
        work(self);
    }
}

/// Proof that the CPU has an instruction set beyond NEON, and the way to run code that is compiled for it.
macro_rules! instruction_set {
    ($name:ident, $feature:tt, $features:literal) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(());

        impl $name {
            pub(crate) fn new() -> Option<Self> {
                is_aarch64_feature_detected!($feature).then_some(Self(()))
            }

            /// Everything that is inlined into `work` is compiled for this set.
            #[inline(always)]
            pub(crate) fn run(self, work: impl FnOnce(Neon)) {
                #[target_feature(enable = $features)]
                fn inner(work: impl FnOnce(Neon)) {
                    work(Neon(()));
                }
                // SAFETY: a value of this type exists only where `new` has found the feature.
                unsafe { inner(work) }
            }
        }
    };
}

instruction_set!(Dotprod, "dotprod", "neon,dotprod");
instruction_set!(I8mm, "i8mm", "neon,i8mm");

/// Eight f32 in two registers.
#[derive(Clone, Copy)]
pub(crate) struct Neon8(float32x4_t, float32x4_t);

impl Neon8 {
    #[inline(always)]
    fn zip(self, other: Self, join: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Self(join(self.0, other.0), join(self.1, other.1))
    }

    /// Joins the halves, then the halves of that: two lanes are left.
    #[inline(always)]
    fn halve_twice(self, join: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> float32x2_t {
        let four = join(self.0, self.1);
        // SAFETY: every aarch64 CPU has NEON; so below.
        unsafe { vget_low_f32(join(four, vcombine_f32(vget_high_f32(four), vget_high_f32(four)))) }
    }
}

// SAFETY: every aarch64 CPU has NEON.
operators! { Neon8:
    Add add |a: Self, b| a.zip(b, |a, b| unsafe { vaddq_f32(a, b) });
    Sub sub |a: Self, b| a.zip(b, |a, b| unsafe { vsubq_f32(a, b) });
    Mul mul |a: Self, b| a.zip(b, |a, b| unsafe { vmulq_f32(a, b) });
    Div div |a: Self, b| a.zip(b, |a, b| unsafe { vdivq_f32(a, b) });
}

impl Floats for Neon8 {
    type Cpu = Neon;

    #[inline(always)]
    fn splat(_: Neon, value: f32) -> Self {
        // SAFETY: every aarch64 CPU has NEON; so below.
        let half = unsafe { vdupq_n_f32(value) };
        Self(half, half)
    }

    #[inline(always)]
    fn load(_: Neon, values: &[f32; LANES]) -> Self {
        let start = values.as_ptr();
        // SAFETY: as above; the loads are of 32 readable bytes.
        unsafe { Self(vld1q_f32(start), vld1q_f32(start.add(LANES / 2))) }
    }

    #[inline(always)]
    fn from_integers(_: Neon, integers: &[i32; LANES]) -> Self {
        let start = integers.as_ptr();
        // SAFETY: as above.
        unsafe { Self(vcvtq_f32_s32(vld1q_s32(start)), vcvtq_f32_s32(vld1q_s32(start.add(LANES / 2)))) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        let start = to.as_mut_ptr();
        // SAFETY: as above; `to` is 32 writable bytes.
        unsafe {
            vst1q_f32(start, self.0);
            vst1q_f32(start.add(LANES / 2), self.1);
        }
    }

    #[inline(always)]
    fn times_plus(self, factor: Self, addend: Self) -> Self {
        // SAFETY: as above.
        unsafe { Self(vfmaq_f32(addend.0, self.0, factor.0), vfmaq_f32(addend.1, self.1, factor.1)) }
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        // SAFETY: as above.
        self.zip(other, |a, b| unsafe { vmaxq_f32(a, b) })
    }

    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        // SAFETY: as above.
        self.zip(other, |a, b| unsafe { vminq_f32(a, b) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: as above.
        unsafe { Self(vabsq_f32(self.0), vabsq_f32(self.1)) }
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        #[inline(always)]
        fn power(values: float32x4_t) -> float32x4_t {
            // SAFETY: as above.
            unsafe {
                let biased = vaddq_s32(vreinterpretq_s32_f32(values), vdupq_n_s32(EXPONENT_BIAS));
                vreinterpretq_f32_s32(vshlq_n_s32::<EXPONENT_SHIFT>(biased))
            }
        }
        Self(power(self.0), power(self.1))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: as above.
        unsafe { vpadds_f32(self.halve_twice(|a, b| vaddq_f32(a, b))) }
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        // SAFETY: as above.
        unsafe { vpmaxs_f32(self.halve_twice(|a, b| vmaxq_f32(a, b))) }
    }

    #[inline(always)]
    fn round(values: [Self; 4], flip: u8, to: &mut [u8; BYTES]) {
        let [a, b, c, d] = values.map(
            #[inline(always)]
            |Self(low, high)| {
                // SAFETY: as above. The conversion rounds half to even, the narrowing ones saturate.
                unsafe { vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(low)), vcvtnq_s32_f32(high)) }
            },
        );
        for (to, [low, high]) in to.as_chunks_mut::<16>().0.iter_mut().zip([[a, b], [c, d]]) {
            // SAFETY: as above; `to` is sixteen writable bytes.
            unsafe {
                let bytes = vreinterpretq_u8_s8(vqmovn_high_s16(vqmovn_s16(low), high));
                vst1q_u8(to.as_mut_ptr(), veorq_u8(bytes, vdupq_n_u8(flip)));
            }
        }
    }
}
