//! The arithmetic of intentd's encoder, and all of the project's unsafe code.
//!
//! Values are f32 rows, one per token: `[tokens, channels]`, the channels of a token side by side. A product with
//! weights is a 1x1 convolution in groups, in two steps:
//!
//! 1. [`Kernel::quantise`] turns each row into 8-bit integers with one scale: the largest magnitude times 1/127, at least
//!    1e-8; a product with its reciprocal, then rounding half to even.
//! 2. [`Kernel::multiply`] sums integer products in i32 and gives `sum x row scale x channel scale + bias`, in that
//!    order, the last two steps fused; [`Then`] says what else is done to a result before it is stored.
//!
//! Weights have 7 bits ([`Weights`]). Around the products stand attention, layer norm and GELU in f32.
//!
//! Every kernel gives the same integers and the same f32 values to the bit: integer sums have no order, and the f32
//! steps have one written order (vectors of eight lanes, a fixed tree of sums, fused multiply-add where it is written, no
//! estimated reciprocals).
//! A row's result depends on that row alone, attention's on its own sequence alone: so neither batch nor CPU changes an
//! answer.
//!
//! A further instruction set plugs in as one more [`Kernel`]: nothing outside this crate names one.

// Lanes and tokens of several arrays are walked by one index: an iterator over one of them would say less, and closures
// are not always inlined into the code of an instruction set.
#![allow(clippy::needless_range_loop)]

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod activations;
mod attention;
mod floats;
mod lanes;
mod pack;
mod product;
mod rows;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(test)]
mod tests;

use std::ops::Range;

pub use activations::Activations;
pub use attention::Attention;
pub use pack::{Weights, WeightsError};
pub use product::Then;
pub use rows::Norm;

/// A way to compute that this CPU can run: holding one is the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Isa);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(x86_64::Avx2),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(x86_64::AvxVnni),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(x86_64::Avx512Vnni),
    #[cfg(target_arch = "aarch64")]
    Neon(aarch64::Neon),
    #[cfg(target_arch = "aarch64")]
    Dotprod(aarch64::Dotprod),
    #[cfg(target_arch = "aarch64")]
    I8mm(aarch64::I8mm),
}

/// Runs an expression on the instruction set of a kernel: everything that is inlined into it is compiled for that set.
/// `$tile` names the type that multiplies integers there, `$cpu` the proof that its f32 steps ask for.
macro_rules! on {
    ($kernel:expr, $tile:ident, $cpu:ident => $body:expr) => {
        match $kernel.0 {
            Isa::Portable => {
                type $tile = lanes::Portable;
                let $cpu = ();
                $body
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(cpu) => {
                type $tile = x86_64::Avx2Lanes;
                cpu.run(
                    #[inline(always)]
                    |$cpu| $body,
                )
            }
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni(cpu) => {
                type $tile = x86_64::AvxVnniLanes;
                cpu.run(
                    #[inline(always)]
                    |$cpu| $body,
                )
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni(cpu) => {
                type $tile = x86_64::Avx512VnniLanes;
                cpu.run(
                    #[inline(always)]
                    |$cpu| $body,
                )
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(cpu) => {
                type $tile = aarch64::NeonTile;
                cpu.run(
                    #[inline(always)]
                    |$cpu| $body,
                )
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Dotprod(cpu) => {
                type $tile = aarch64::DotprodTile;
                cpu.run(
                    #[inline(always)]
                    |$cpu| $body,
                )
            }
            #[cfg(target_arch = "aarch64")]
            Isa::I8mm(cpu) => {
                type $tile = aarch64::I8mmTile;
                cpu.run(
                    #[inline(always)]
                    |$cpu| $body,
                )
            }
        }
    };
}

#[cfg(test)]
use on;

/// Forces a kernel by name. For tests of the whole daemon: users have no reason to choose a slower one.
const FORCED_KERNEL: &str = "INTENTD_KERNEL";

impl Kernel {
    /// Every kernel that this CPU can run, fastest first. The portable one is always there, last.
    pub fn all() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            kernels.extend(x86_64::Avx512Vnni::new().map(|cpu| Self(Isa::Avx512Vnni(cpu))));
            kernels.extend(x86_64::AvxVnni::new().map(|cpu| Self(Isa::AvxVnni(cpu))));
            kernels.extend(x86_64::Avx2::new().map(|cpu| Self(Isa::Avx2(cpu))));
        }
        #[cfg(target_arch = "aarch64")]
        {
            kernels.extend(aarch64::I8mm::new().map(|cpu| Self(Isa::I8mm(cpu))));
            kernels.extend(aarch64::Dotprod::new().map(|cpu| Self(Isa::Dotprod(cpu))));
            kernels.extend(aarch64::Neon::new().map(|cpu| Self(Isa::Neon(cpu))));
        }
        kernels.push(Self(Isa::Portable));
        kernels
    }

    /// The fastest one, unless the environment forces another one that this CPU can run.
    pub fn best() -> Self {
        let forced = std::env::var(FORCED_KERNEL).ok().and_then(|name| Self::named(&name));
        forced.unwrap_or_else(|| Self::all()[0])
    }

    /// The kernel of that name, where this CPU can run it.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|kernel| kernel.name() == name)
    }

    /// Name for logs, metrics and `model inspect`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Isa::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni(_) => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni(_) => "avx512-vnni",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            Isa::Dotprod(_) => "dotprod",
            #[cfg(target_arch = "aarch64")]
            Isa::I8mm(_) => "i8mm",
        }
    }

    /// Quantises `x`, `[tokens, channels]`, into `out`, whose memory is reused.
    ///
    /// # Panics
    /// If `x` holds no whole rows, or `channels` is no multiple of four.
    pub fn quantise(self, x: &[f32], channels: usize, out: &mut Activations) {
        assert!(channels > 0 && channels.is_multiple_of(4), "channels must be a multiple of four");
        assert!(x.len().is_multiple_of(channels), "values must be tokens x channels");
        on!(self, T, cpu => activations::quantise::<T>(cpu, x, channels, out));
    }

    /// Multiplies quantised activations by weights into `out`, `[tokens, outputs]`.
    ///
    /// # Panics
    /// If a kernel of the other signedness quantised the activations, or sizes disagree.
    pub fn multiply(self, activations: &Activations, weights: &Weights, then: Then<'_>, out: &mut [f32]) {
        assert_eq!(
            activations.channels(),
            weights.inputs(),
            "activations and weights must have the same channels"
        );
        assert_eq!(out.len(), weights.outputs() * activations.tokens(), "out must be tokens x outputs");
        match then {
            Then::Store => self.multiply_then(activations, weights, product::Store, out),
            Then::Gelu => self.multiply_then(activations, weights, product::Gelu, out),
            Then::Add(x) => {
                assert_eq!(x.len(), out.len(), "what is added must be tokens x outputs");
                self.multiply_then(activations, weights, product::Add(x), out);
            }
        }
    }

    fn multiply_then(
        self,
        activations: &Activations,
        weights: &Weights,
        last: impl product::Last,
        out: &mut [f32],
    ) {
        on!(self, T, cpu => product::multiply::<T, _>(cpu, activations, weights, last, out));
    }

    /// Layer norm of each row of `x`, `[tokens, channels]`, in place (Ba, Kiros, Hinton 2016).
    ///
    /// # Panics
    /// If `x` holds no whole rows.
    pub fn normalise(self, norm: &Norm, x: &mut [f32]) {
        assert!(x.len().is_multiple_of(norm.channels()), "values must be tokens x channels");
        on!(self, T, cpu => rows::normalise::<<T as lanes::Tile>::Floats>(cpu, norm, x));
    }

    /// Self-attention of one sequence (Vaswani et al. 2017, section 3.2), every head by itself: `query`, `key`, `value`
    /// and `context` are `[tokens, channels]` and hold the sequences of a batch end to end; `tokens` is this sequence.
    ///
    /// # Panics
    /// If the slices differ in length or do not hold the sequence.
    pub fn attend(
        self,
        attention: &mut Attention,
        tokens: Range<usize>,
        [query, key, value]: [&[f32]; 3],
        context: &mut [f32],
    ) {
        on!(self, T, cpu => attention.attend::<<T as lanes::Tile>::Floats>(cpu, tokens, [query, key, value], context));
    }
}
