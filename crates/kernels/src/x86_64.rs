//! Instruction sets of x86-64. AVX2: `vpmaddubsw` multiplies u8 activations by s8 weights and adds two neighbours in 16
//! bits, `vpmaddwd` with ones adds two of those in 32 bits. The first saturates; `Weights` guarantees that it never
//! does. Results of two `vpmaddubsw` are added only after `vpmaddwd`: their 16 bits have no room for a second one.
//! VNNI: `vpdpbusd` does all of it, without saturation, for eight or sixteen outputs.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_add_epi32, _mm256_dpbusd_avx_epi32, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_storeu_si256,
    _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_storeu_si512,
};

use crate::lanes::{Lanes, OUTPUTS, Quad};

/// Proof that the CPU has an instruction set, and the way to run code that is compiled for it.
macro_rules! instruction_set {
    ($name:ident, $detected:expr, $features:literal) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(());

        impl $name {
            pub(crate) fn new() -> Option<Self> {
                $detected.then_some(Self(()))
            }

            /// Everything that is inlined into `work` is compiled for this set.
            #[inline(always)]
            pub(crate) fn run(self, work: impl FnOnce()) {
                #[target_feature(enable = $features)]
                fn inner(work: impl FnOnce()) {
                    work();
                }
                // SAFETY: a value of this type exists only where `new` has found the features.
                unsafe { inner(work) }
            }
        }
    };
}

instruction_set!(Avx2, is_x86_feature_detected!("avx2"), "avx2");
instruction_set!(
    AvxVnni,
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni"),
    "avx2,avxvnni"
);
instruction_set!(
    Avx512Vnni,
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni"),
    "avx2,avx512f,avx512bw,avx512vl,avx512vnni"
);

pub(crate) struct Avx2Lanes;
pub(crate) struct AvxVnniLanes;
pub(crate) struct Avx512VnniLanes;

/// Both halves of a quad: eight outputs each.
#[inline(always)]
unsafe fn load_halves(quad: &Quad) -> [__m256i; 2] {
    let start = quad.as_ptr().cast::<__m256i>();
    // SAFETY: a quad is 64 readable bytes; the loads need no alignment.
    unsafe { [_mm256_loadu_si256(start), _mm256_loadu_si256(start.add(1))] }
}

#[inline(always)]
unsafe fn store_halves(sums: [__m256i; 2]) -> [i32; OUTPUTS] {
    let mut out = [0; OUTPUTS];
    let start = out.as_mut_ptr().cast::<__m256i>();
    // SAFETY: `out` is 64 writable bytes; the stores need no alignment.
    unsafe {
        _mm256_storeu_si256(start, sums[0]);
        _mm256_storeu_si256(start.add(1), sums[1]);
    }
    out
}

impl Lanes for Avx2Lanes {
    type Sums = [__m256i; 2];
    type Weights = [__m256i; 2];
    const UNSIGNED: bool = true;
    const TOKENS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        // SAFETY: the caller has AVX2.
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    unsafe fn load(quad: &Quad) -> Self::Weights {
        // SAFETY: the caller has AVX2.
        unsafe { load_halves(quad) }
    }

    #[inline(always)]
    unsafe fn add(sums: Self::Sums, weights: Self::Weights, channels: u32) -> Self::Sums {
        // SAFETY: the caller has AVX2.
        unsafe {
            let (x, ones) = (_mm256_set1_epi32(channels as i32), _mm256_set1_epi16(1));
            let products = |weights| _mm256_madd_epi16(_mm256_maddubs_epi16(x, weights), ones);
            [_mm256_add_epi32(sums[0], products(weights[0])), _mm256_add_epi32(sums[1], products(weights[1]))]
        }
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums) -> [i32; OUTPUTS] {
        // SAFETY: the caller has AVX2.
        unsafe { store_halves(sums) }
    }
}

impl Lanes for AvxVnniLanes {
    type Sums = [__m256i; 2];
    type Weights = [__m256i; 2];
    const UNSIGNED: bool = true;
    const TOKENS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        // SAFETY: the caller has AVX-VNNI, and so AVX2.
        unsafe { [_mm256_setzero_si256(); 2] }
    }

    #[inline(always)]
    unsafe fn load(quad: &Quad) -> Self::Weights {
        // SAFETY: as above.
        unsafe { load_halves(quad) }
    }

    #[inline(always)]
    unsafe fn add(sums: Self::Sums, weights: Self::Weights, channels: u32) -> Self::Sums {
        // SAFETY: as above.
        unsafe {
            let x = _mm256_set1_epi32(channels as i32);
            [_mm256_dpbusd_avx_epi32(sums[0], x, weights[0]), _mm256_dpbusd_avx_epi32(sums[1], x, weights[1])]
        }
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums) -> [i32; OUTPUTS] {
        // SAFETY: as above.
        unsafe { store_halves(sums) }
    }
}

impl Lanes for Avx512VnniLanes {
    type Sums = __m512i;
    type Weights = __m512i;
    const UNSIGNED: bool = true;
    const TOKENS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        // SAFETY: the caller has AVX-512.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn load(quad: &Quad) -> Self::Weights {
        // SAFETY: a quad is 64 readable bytes; the load needs no alignment.
        unsafe { _mm512_loadu_si512(quad.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn add(sums: Self::Sums, weights: Self::Weights, channels: u32) -> Self::Sums {
        // SAFETY: the caller has AVX-512 VNNI.
        unsafe { _mm512_dpbusd_epi32(sums, _mm512_set1_epi32(channels as i32), weights) }
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums) -> [i32; OUTPUTS] {
        let mut out = [0; OUTPUTS];
        // SAFETY: `out` is 64 writable bytes; the store needs no alignment.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) };
        out
    }
}
