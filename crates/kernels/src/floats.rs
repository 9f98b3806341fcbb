//! Eight f32 at a time, in whatever registers the instruction set has: what attention, layer norm, GELU and the ends of
//! products are written in, once for all. Each operation rounds as IEEE 754 says, lane by lane, the fused multiply-add
//! once, so every instruction set gives the same bits.

use std::ops::{Add, Div, Mul, Sub};

/// Values in a vector.
pub(crate) const LANES: usize = 8;

/// Bytes that are rounded at once: four vectors.
pub(crate) const BYTES: usize = 4 * LANES;

/// A vector of eight f32. It is made only with a proof that the CPU has the instructions, so holding one is that proof,
/// and its operations are safe.
///
/// Everything here is inlined into the `run` of an instruction set; what stayed a function of its own would be compiled
/// without it. So closures around vectors are marked to be inlined too, and arrays of vectors are walked by loops
/// instead of `map`.
pub(crate) trait Floats:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// The proof.
    type Cpu: Copy;

    /// The same value in all lanes.
    fn splat(cpu: Self::Cpu, value: f32) -> Self;
    fn load(cpu: Self::Cpu, values: &[f32; LANES]) -> Self;
    /// Integers as f32, rounded half to even.
    fn from_integers(cpu: Self::Cpu, integers: &[i32; LANES]) -> Self;
    fn store(self, to: &mut [f32; LANES]);
    /// Times a factor and plus an addend, rounded once.
    fn times_plus(self, factor: Self, addend: Self) -> Self;
    /// The greater of each lane's two; neither is NaN.
    fn larger(self, other: Self) -> Self;
    /// The lesser of each lane's two; neither is NaN.
    fn smaller(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// 2 to the power of n, for lanes of 1.5 x 2^23 + n with n from -126 to 127.
    fn power_of_two(self) -> Self;
    /// Sum of the lanes: halves upon halves, the first with the second.
    fn sum(self) -> f32;
    /// The largest lane.
    fn largest(self) -> f32;
    /// Rounds half to even, -128 to 127, and flips bits of each two's complement.
    fn round(values: [Self; 4], flip: u8, to: &mut [u8; BYTES]);
}

/// 1.5 x 2^23: adding it to a small f32 rounds that half to even and leaves the integer in the low bits. `round` is a
/// library call on CPUs without SSE4.1, and a saturating conversion costs several instructions.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// Bits of 2^n from those of 1.5 x 2^23 + n.
pub(crate) const EXPONENT_BIAS: i32 = 127;
/// Where an f32's exponent begins.
pub(crate) const EXPONENT_SHIFT: i32 = 23;

/// Plain Rust, for every CPU.
#[derive(Clone, Copy)]
pub(crate) struct Portable8([f32; LANES]);

impl Portable8 {
    #[inline(always)]
    fn zip(self, other: Self, join: impl Fn(f32, f32) -> f32) -> Self {
        let mut lanes = self.0;
        for lane in 0..LANES {
            lanes[lane] = join(lanes[lane], other.0[lane]);
        }
        Self(lanes)
    }

    /// Halves upon halves, until one is left.
    #[inline(always)]
    fn tree(mut self, join: impl Fn(f32, f32) -> f32) -> f32 {
        for half in [4, 2, 1] {
            for lane in 0..half {
                self.0[lane] = join(self.0[lane], self.0[lane + half]);
            }
        }
        self.0[0]
    }
}

impl Floats for Portable8 {
    type Cpu = ();

    #[inline(always)]
    fn splat((): (), value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn load((): (), values: &[f32; LANES]) -> Self {
        Self(*values)
    }

    #[inline(always)]
    fn from_integers((): (), integers: &[i32; LANES]) -> Self {
        Self(integers.map(|integer| integer as f32))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }

    #[inline(always)]
    fn times_plus(mut self, factor: Self, addend: Self) -> Self {
        for lane in 0..LANES {
            self.0[lane] = times_plus(self.0[lane], factor.0[lane], addend.0[lane]);
        }
        self
    }

    // Written so that each is one instruction; `f32::max` needs more, for NaN.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        self.zip(other, |a, b| if b > a { b } else { a })
    }

    #[inline(always)]
    fn smaller(self, other: Self) -> Self {
        self.zip(other, |a, b| if b < a { b } else { a })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        let power = |value: f32| (value.to_bits() as i32).wrapping_add(EXPONENT_BIAS) << EXPONENT_SHIFT;
        Self(self.0.map(|value| f32::from_bits(power(value) as u32)))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        self.tree(|a, b| a + b)
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        self.tree(|a, b| if b > a { b } else { a })
    }

    #[inline(always)]
    fn round(values: [Self; 4], flip: u8, to: &mut [u8; BYTES]) {
        for (to, values) in to.as_chunks_mut::<LANES>().0.iter_mut().zip(values) {
            *to = values.0.map(|value| (value + ROUND).to_bits() as u8 ^ flip);
        }
    }
}

/// a x b + c, rounded once. Where the target has no instruction for it, `f32::mul_add` is a slow library call.
///
/// The product of two f32 is exact in f64. Its sum with c is rounded to odd: inexact, the last bit is set, as a mark that
/// what was cut off is not zero. Rounding that to f32 is then right (Boldo, Melquiond 2008, theorem 4).
#[inline(always)]
pub(crate) fn times_plus(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
        return a.mul_add(b, c);
    }
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    // What the sum has lost, exactly (Knuth 1969, section 4.2.2).
    let back = sum - product;
    let lost = (product - (sum - back)) + (c - back);
    let bits = sum.to_bits();
    // Away from zero where the sum is too small, so that the last bit is right before it is set.
    let beyond = (lost > 0.0) == (sum > 0.0);
    let odd = if beyond { bits | 1 } else { bits.wrapping_sub(1) | 1 };
    (if lost == 0.0 || lost.is_nan() { sum } else { f64::from_bits(odd) }) as f32
}

/// The four operations of a vector type from a function for each.
macro_rules! operators {
    ($vector:ident: $($operator:ident $method:ident $function:expr;)*) => {
        $(impl std::ops::$operator for $vector {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                $function(self, other)
            }
        })*
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use operators;

operators! { Portable8:
    Add add |a: Self, b| a.zip(b, |a, b| a + b);
    Sub sub |a: Self, b| a.zip(b, |a, b| a - b);
    Mul mul |a: Self, b| a.zip(b, |a, b| a * b);
    Div div |a: Self, b| a.zip(b, |a, b| a / b);
}
