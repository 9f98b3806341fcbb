//! f32 steps on rows, in one written order: vectors of eight lanes, a fixed tree of sums, multiply-add fused where it
//! says so.

use crate::floats::{Floats, LANES, ROUND};

/// Vectors that a row is summed into, in turn: additions then need not wait for each other.
const SUMS: usize = 4;

/// A layer norm's parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl Norm {
    /// One weight and one bias per channel.
    ///
    /// # Panics
    /// If they differ in number, or are not a multiple of eight.
    pub fn new(weight: Vec<f32>, bias: Vec<f32>, epsilon: f32) -> Self {
        assert!(Self::fits(weight.len()), "channels must be a multiple of eight");
        assert!(weight.len() == bias.len(), "one weight and one bias per channel");
        Self { weight, bias, epsilon }
    }

    /// Whether [`Norm::new`] takes so many channels.
    pub fn fits(channels: usize) -> bool {
        channels > 0 && channels.is_multiple_of(LANES)
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.weight.len()
    }
}

#[inline(always)]
pub(crate) fn normalise<F: Floats>(cpu: F::Cpu, norm: &Norm, x: &mut [f32]) {
    let count = norm.channels() as f32;
    let parameters = || norm.weight.as_chunks().0.iter().zip(norm.bias.as_chunks().0);
    for row in x.chunks_exact_mut(norm.channels()) {
        let mean = F::splat(cpu, sum::<F>(cpu, row) / count);
        let squares = fold::<F>(
            cpu,
            row,
            #[inline(always)]
            |sum, value| (value - mean).times_plus(value - mean, sum),
        );
        let variance = add(squares).sum() / count;
        let factor = F::splat(cpu, 1.0 / (variance + norm.epsilon).sqrt());
        for (values, (weight, bias)) in row.as_chunks_mut().0.iter_mut().zip(parameters()) {
            let normal = (F::load(cpu, values) - mean) * factor;
            normal.times_plus(F::load(cpu, weight), F::load(cpu, bias)).store(values);
        }
    }
}

/// The sum of whole vectors.
#[inline(always)]
pub(crate) fn sum<F: Floats>(cpu: F::Cpu, values: &[f32]) -> f32 {
    let sums = fold::<F>(
        cpu,
        values,
        #[inline(always)]
        |sum, value| sum + value,
    );
    add(sums).sum()
}

/// The largest magnitude of any number of values.
#[inline(always)]
pub(crate) fn largest_magnitude<F: Floats>(cpu: F::Cpu, values: &[f32]) -> f32 {
    let [a, b, c, d] = fold::<F>(
        cpu,
        values,
        #[inline(always)]
        |largest, value| largest.larger(value.abs()),
    );
    let rest = values.as_chunks::<LANES>().1;
    rest.iter().fold(a.larger(b).larger(c.larger(d)).largest(), |largest, value| larger(largest, value.abs()))
}

/// The largest of whole vectors.
#[inline(always)]
pub(crate) fn largest<F: Floats>(cpu: F::Cpu, values: &[f32]) -> f32 {
    let mut largest = F::splat(cpu, f32::NEG_INFINITY);
    for values in values.as_chunks().0 {
        largest = largest.larger(F::load(cpu, values));
    }
    largest.largest()
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Folds whole vectors from zero on, each into the next of the sums.
#[inline(always)]
fn fold<F: Floats>(cpu: F::Cpu, values: &[f32], step: impl Fn(F, F) -> F) -> [F; SUMS] {
    let mut sums = [F::splat(cpu, 0.0); SUMS];
    let (rounds, rest) = values.as_chunks::<LANES>().0.as_chunks::<SUMS>();
    for vectors in rounds {
        for n in 0..SUMS {
            sums[n] = step(sums[n], F::load(cpu, &vectors[n]));
        }
    }
    for (sum, values) in sums.iter_mut().zip(rest) {
        *sum = step(*sum, F::load(cpu, values));
    }
    sums
}

#[inline(always)]
fn add<F: Floats>([a, b, c, d]: [F; SUMS]) -> F {
    (a + b) + (c + d)
}

/// x times the probability that a standard normal variable is below x (Hendrycks, Gimpel 2016). Error at most
/// 1e-5 |x|: what follows rounds it to 8 bits, in steps of a 127th of a row's largest value.
///
/// The probability is 1/2 plus x times a polynomial in x^2, on -4.25..4.25, beyond which it stays what it is there
/// (a minimax fit, written about the middle of x^2 so that f32 loses nothing). No quotient: a division costs as much as
/// half of the polynomial on x86, and more on small ARM cores.
///
/// Of several vectors in step: a polynomial is one long chain, and so the CPU has others to work on.
#[inline(always)]
pub(crate) fn gelu<F: Floats, const N: usize>(cpu: F::Cpu, x: [F; N]) -> [F; N] {
    let (mut inner, mut square) = (x, x);
    for n in 0..N {
        inner[n] = x[n].smaller(F::splat(cpu, 4.25)).larger(F::splat(cpu, -4.25));
        square[n] = inner[n].times_plus(inner[n], F::splat(cpu, -9.03));
    }
    let p = polynomial(
        cpu,
        square,
        [
            5.564_902e-11,
            -1.307_705_8e-9,
            1.582_896_3e-8,
            -2.349_61e-7,
            3.848_467e-6,
            -5.344_046_4e-5,
            6.831_154e-4,
            -8.944_158e-3,
            1.659_465_6e-1,
        ],
    );
    let mut y = x;
    for n in 0..N {
        y[n] = x[n] * inner[n].times_plus(p[n], F::splat(cpu, 0.5));
    }
    y
}

/// e^x for x from -87 to 0, what softmax needs; smaller ones give about 1.6e-38. Relative error at most 2e-7.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts so that r is exact; e^r by a polynomial (the coefficients of
/// Cephes' `expf`, Moshier); 2^n by its bits.
#[inline(always)]
pub(crate) fn exp<F: Floats>(cpu: F::Cpu, x: F) -> F {
    let splat = |value| F::splat(cpu, value);
    let x = x.larger(splat(-87.0));
    let shifted = x.times_plus(splat(std::f32::consts::LOG2_E), splat(ROUND));
    let n = shifted - splat(ROUND);
    let r = n.times_plus(splat(2.121_944_4e-4), n.times_plus(splat(-0.693_359_4), x));
    let coefficients = [1.987_569_2e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
    let [p] = polynomial(cpu, [r], coefficients);
    p.times_plus(r * r, r + splat(1.0)) * shifted.power_of_two()
}

/// The coefficient of the highest power is the first. Even and odd powers by themselves, each by Horner's rule in x^2:
/// two chains of half the length.
#[inline(always)]
fn polynomial<F: Floats, const N: usize, const C: usize>(
    cpu: F::Cpu,
    x: [F; N],
    coefficients: [f32; C],
) -> [F; N] {
    let mut squares = x;
    for n in 0..N {
        squares[n] = x[n] * x[n];
    }
    // The highest power is the first of its chain, the next one of the other.
    let mut chains = [[F::splat(cpu, coefficients[0]); N], [F::splat(cpu, coefficients[1]); N]];
    for c in 2..C {
        let coefficient = F::splat(cpu, coefficients[c]);
        for n in 0..N {
            chains[c % 2][n] = chains[c % 2][n].times_plus(squares[n], coefficient);
        }
    }
    // The constant is in the chain of the last coefficient.
    let [even, odd] = if C % 2 == 1 { chains } else { [chains[1], chains[0]] };
    let mut sums = x;
    for n in 0..N {
        sums[n] = odd[n].times_plus(x[n], even[n]);
    }
    sums
}
