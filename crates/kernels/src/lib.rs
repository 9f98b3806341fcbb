//! The int8 matrix product of intentd, and all of the project's unsafe code.
//!
//! A product is a 1x1 convolution in groups over channels-first f32 values `[channels, tokens]`:
//!
//! 1. [`Kernel::quantise`] turns each token's channels into 8-bit integers with one scale per token: the largest
//!    magnitude times 1/127, at least 1e-8; division by it, then rounding half to even.
//! 2. [`Kernel::multiply`] sums integer products in i32 and gives `sum x row scale x channel scale + bias`, in that
//!    order, each step rounded to f32, again channels first.
//!
//! Weights have 7 bits ([`Weights`]). Every kernel gives the same integers and the same f32 values to the bit:
//! integer sums have no order, and the f32 steps have one written order without fused multiply-add.
//!
//! A further instruction set plugs in as one more [`Kernel`]: nothing outside this crate names one.

mod activations;
mod pack;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(test)]
mod tests;

pub use activations::Activations;
pub use pack::{Weights, WeightsError};

/// A way to compute products that this CPU can run: holding one is the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Isa);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(x86_64::Avx2),
}

/// Forces a kernel by name. For tests of the whole daemon: users have no reason to choose a slower one.
const FORCED_KERNEL: &str = "INTENTD_KERNEL";

impl Kernel {
    /// Every kernel that this CPU can run, fastest first. The portable one is always there, last.
    pub fn all() -> Vec<Self> {
        let mut kernels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        kernels.extend(x86_64::Avx2::new().map(|avx2| Self(Isa::Avx2(avx2))));
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
        }
    }

    /// Quantises `x`, `[channels, tokens]`, into `out`, whose memory is reused.
    ///
    /// # Panics
    /// If `x` does not hold `channels x tokens` values or `channels` is no multiple of four.
    pub fn quantise(self, x: &[f32], channels: usize, tokens: usize, out: &mut Activations) {
        assert_eq!(x.len(), channels * tokens, "values must be channels x tokens");
        assert!(channels.is_multiple_of(4), "channels must be a multiple of four");
        match self.0 {
            Isa::Portable => out.quantise_rows(x, channels, tokens),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(avx2) => avx2.quantise(x, channels, tokens, out),
        }
    }

    /// Multiplies quantised activations by weights into `out`, `[outputs, tokens]`.
    ///
    /// # Panics
    /// If another kernel quantised the activations, or sizes disagree.
    pub fn multiply(self, activations: &Activations, weights: &Weights, out: &mut [f32]) {
        assert_eq!(
            activations.channels(),
            weights.inputs(),
            "activations and weights must have the same channels"
        );
        assert_eq!(out.len(), weights.outputs() * activations.tokens(), "out must be outputs x tokens");
        match self.0 {
            Isa::Portable => portable::multiply(activations, weights, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(avx2) => avx2.multiply(activations, weights, out),
        }
    }
}
