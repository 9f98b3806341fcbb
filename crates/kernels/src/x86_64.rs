//! Instruction sets of x86-64. AVX2: `vpmaddubsw` multiplies u8 activations by s8 weights and adds two neighbours in 16
//! bits, `vpmaddwd` with ones adds two of those in 32 bits. The first saturates; `Weights` guarantees that it never
//! does. Results of two `vpmaddubsw` are added only after `vpmaddwd`: their 16 bits have no room for a second one.
//! VNNI: `vpdpbusd` does all of it, without saturation, for eight or sixteen outputs.

use std::arch::x86_64::{
    __m128, __m256, __m256i, __m512i, _MM_HINT_T0, _mm_add_ps, _mm_cvtss_f32, _mm_max_ps, _mm_movehdup_ps,
    _mm_movehl_ps, _mm_prefetch, _mm256_add_epi32, _mm256_add_ps, _mm256_andnot_ps, _mm256_castps_si256,
    _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_div_ps,
    _mm256_dpbusd_avx_epi32, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_packs_epi16,
    _mm256_packs_epi32, _mm256_permutevar8x32_epi32, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setr_epi32, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_storeu_si256,
    _mm256_sub_ps, _mm256_xor_si256, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32,
    _mm512_storeu_si512,
};

use crate::floats::{BYTES, EXPONENT_BIAS, EXPONENT_SHIFT, Floats, LANES, operators};
use crate::lanes::{Lanes, OUTPUTS, Quad};

/// Proof that the CPU has an instruction set, and the way to run code that is compiled for it. Each includes AVX2
/// and FMA, which its f32 steps use.
macro_rules! instruction_set {
    ($name:ident, $detected:expr, $features:literal) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) struct $name(());

        impl $name {
            pub(crate) fn new() -> Option<Self> {
                (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && $detected)
                    .then_some(Self(()))
            }

            /// Everything that is inlined into `work` is compiled for this set.
            #[inline(always)]
            pub(crate) fn run(self, work: impl FnOnce(Avx2)) {
                #[target_feature(enable = $features)]
                fn inner(work: impl FnOnce(Avx2)) {
                    work(Avx2(()));
                }
                // SAFETY: a value of this type exists only where `new` has found the features.
                unsafe { inner(work) }
            }
        }
    };
}

instruction_set!(Avx2, true, "avx2,fma");
instruction_set!(AvxVnni, is_x86_feature_detected!("avxvnni"), "avx2,fma,avxvnni");
instruction_set!(
    Avx512Vnni,
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni"),
    "avx2,fma,avx512f,avx512bw,avx512vl,avx512vnni"
);

pub(crate) struct Avx2Lanes;
pub(crate) struct AvxVnniLanes;
pub(crate) struct Avx512VnniLanes;

/// Both halves of 64 readable bytes: eight outputs each.
#[inline(always)]
unsafe fn load_halves(start: *const __m256i) -> [__m256i; 2] {
    // SAFETY: the caller says that the bytes are there; the loads need no alignment.
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

/// A quad is a line of the cache.
#[inline(always)]
fn prefetch(quads: &[Quad]) {
    for quad in quads {
        // SAFETY: every x86-64 CPU has the instruction, and it changes nothing that a program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(quad.as_ptr().cast()) }
    }
}

impl Lanes for Avx2Lanes {
    type Floats = Avx8;
    type Sums = [__m256i; 2];
    type Weights = [__m256i; 2];
    const UNSIGNED: bool = true;
    const TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn start(sums: &[i32; OUTPUTS]) -> Self::Sums {
        // SAFETY: the caller has AVX2; sums are 64 readable bytes.
        unsafe { load_halves(sums.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn load(quad: &Quad) -> Self::Weights {
        // SAFETY: the caller has AVX2; a quad is 64 readable bytes.
        unsafe { load_halves(quad.as_ptr().cast()) }
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
    fn prefetch(quads: &[Quad]) {
        prefetch(quads);
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums) -> [i32; OUTPUTS] {
        // SAFETY: the caller has AVX2.
        unsafe { store_halves(sums) }
    }
}

impl Lanes for AvxVnniLanes {
    type Floats = Avx8;
    type Sums = [__m256i; 2];
    type Weights = [__m256i; 2];
    const UNSIGNED: bool = true;
    // `vpdpbusd` takes five cycles and two start in each: ten sums at least.
    const TOKENS: usize = 6;

    #[inline(always)]
    unsafe fn start(sums: &[i32; OUTPUTS]) -> Self::Sums {
        // SAFETY: the caller has AVX-VNNI, and so AVX2; sums are 64 readable bytes.
        unsafe { load_halves(sums.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn load(quad: &Quad) -> Self::Weights {
        // SAFETY: as above; a quad is 64 readable bytes.
        unsafe { load_halves(quad.as_ptr().cast()) }
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
    fn prefetch(quads: &[Quad]) {
        prefetch(quads);
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums) -> [i32; OUTPUTS] {
        // SAFETY: as above.
        unsafe { store_halves(sums) }
    }
}

impl Lanes for Avx512VnniLanes {
    type Floats = Avx8;
    type Sums = __m512i;
    type Weights = __m512i;
    const UNSIGNED: bool = true;
    const TOKENS: usize = 8;

    #[inline(always)]
    unsafe fn start(sums: &[i32; OUTPUTS]) -> Self::Sums {
        // SAFETY: the caller has AVX-512; sums are 64 readable bytes, and the load needs no alignment.
        unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) }
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
    fn prefetch(quads: &[Quad]) {
        prefetch(quads);
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums) -> [i32; OUTPUTS] {
        let mut out = [0; OUTPUTS];
        // SAFETY: `out` is 64 writable bytes; the store needs no alignment.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) };
        out
    }
}

/// Eight f32 in a register of AVX.
#[derive(Clone, Copy)]
pub(crate) struct Avx8(__m256);

operators! { Avx8:
    // SAFETY: an `Avx8` exists only where the CPU has AVX2.
    Add add |a: Self, b: Self| Self(unsafe { _mm256_add_ps(a.0, b.0) });
    Sub sub |a: Self, b: Self| Self(unsafe { _mm256_sub_ps(a.0, b.0) });
    Mul mul |a: Self, b: Self| Self(unsafe { _mm256_mul_ps(a.0, b.0) });
    Div div |a: Self, b: Self| Self(unsafe { _mm256_div_ps(a.0, b.0) });
}

impl Avx8 {
    /// Joins the halves, then the halves of that, until one lane is left.
    #[inline(always)]
    fn tree(self, join: impl Fn(__m128, __m128) -> __m128) -> f32 {
        // SAFETY: an `Avx8` exists only where the CPU has AVX2.
        unsafe {
            let four = join(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = join(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(join(two, _mm_movehdup_ps(two)))
        }
    }
}

impl Floats for Avx8 {
    type Cpu = Avx2;

    #[inline(always)]
    fn splat(_: Avx2, value: f32) -> Self {
        // SAFETY: the proof says that the CPU has AVX2.
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    fn load(_: Avx2, values: &[f32; LANES]) -> Self {
        // SAFETY: as above; the load is of 32 readable bytes and needs no alignment.
        Self(unsafe { _mm256_loadu_ps(values.as_ptr()) })
    }

    #[inline(always)]
    fn from_integers(_: Avx2, integers: &[i32; LANES]) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_cvtepi32_ps(_mm256_loadu_si256(integers.as_ptr().cast())) })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        // SAFETY: an `Avx8` exists only where the CPU has AVX2; `to` is 32 writable bytes.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn times_plus(self, factor: Self, addend: Self) -> Self {
        // SAFETY: an `Avx8` exists only where the CPU has AVX2 and FMA.
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        // SAFETY: an `Avx8` exists only where the CPU has AVX2; so below.
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        // SAFETY: as above.
        unsafe {
            let biased = _mm256_add_epi32(_mm256_castps_si256(self.0), _mm256_set1_epi32(EXPONENT_BIAS));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<EXPONENT_SHIFT>(biased)))
        }
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        self.tree(
            #[inline(always)]
            // SAFETY: as above.
            |a, b| unsafe { _mm_add_ps(a, b) },
        )
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        self.tree(
            #[inline(always)]
            // SAFETY: as above.
            |a, b| unsafe { _mm_max_ps(a, b) },
        )
    }

    #[inline(always)]
    fn round([a, b, c, d]: [Self; 4], flip: u8, to: &mut [u8; BYTES]) {
        // SAFETY: as above; `to` is 32 writable bytes. The conversion rounds half to even, the control register's
        // default, which Rust relies on everywhere.
        unsafe {
            let ab = _mm256_packs_epi32(_mm256_cvtps_epi32(a.0), _mm256_cvtps_epi32(b.0));
            let cd = _mm256_packs_epi32(_mm256_cvtps_epi32(c.0), _mm256_cvtps_epi32(d.0));
            // Packing keeps to halves of a register: four bytes each of a, b, c, d, then the other four of each.
            let mixed = _mm256_packs_epi16(ab, cd);
            let ordered = _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
            let flipped = _mm256_xor_si256(ordered, _mm256_set1_epi8(flip as i8));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), flipped);
        }
    }
}
