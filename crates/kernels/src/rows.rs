//! f32 steps on rows, in one written order: eight lanes, then a fixed tree. Every function is inlined into code that is
//! compiled for the instruction set of the kernel, which turns an array of eight into a register.

/// f32 lanes of the written order.
pub(crate) const LANES: usize = 8;

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
    /// If they differ in number or there are none.
    pub fn new(weight: Vec<f32>, bias: Vec<f32>, epsilon: f32) -> Self {
        assert!(!weight.is_empty() && weight.len() == bias.len(), "one weight and one bias per channel");
        Self { weight, bias, epsilon }
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.weight.len()
    }
}

#[inline(always)]
pub(crate) fn normalise(norm: &Norm, x: &mut [f32]) {
    let channels = norm.channels();
    let count = channels as f32;
    for row in x.chunks_exact_mut(channels) {
        let mean = sum(row, |value| value) / count;
        let variance = sum(row, |value| (value - mean) * (value - mean)) / count;
        let factor = 1.0 / (variance + norm.epsilon).sqrt();
        for (value, (weight, bias)) in row.iter_mut().zip(norm.weight.iter().zip(&norm.bias)) {
            *value = (*value - mean) * factor * weight + bias;
        }
    }
}

/// The sum of `of` each value.
#[inline(always)]
pub(crate) fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in whole {
        for lane in 0..LANES {
            sums[lane] += of(chunk[lane]);
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rest) {
        *sum += of(value);
    }
    tree(sums, |a, b| a + b)
}

#[inline(always)]
pub(crate) fn largest_magnitude(values: &[f32]) -> f32 {
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut largest = [0.0; LANES];
    for chunk in whole {
        for lane in 0..LANES {
            largest[lane] = larger(largest[lane], chunk[lane].abs());
        }
    }
    for (largest, value) in largest.iter_mut().zip(rest) {
        *largest = larger(*largest, value.abs());
    }
    tree(largest, larger)
}

/// Written so that it is one instruction; `f32::max` needs more, for values that are no numbers.
#[inline(always)]
pub(crate) fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Halves upon halves.
#[inline(always)]
pub(crate) fn tree(lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    join(join(join(a, e), join(c, g)), join(join(b, f), join(d, h)))
}

/// x times the probability that a standard normal variable is below x (Hendrycks, Gimpel 2016), by the error function.
/// Absolute error at most 5e-7 (1 + |x|).
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The error function as a quotient of polynomials in x^2, fitted on -4..4 (the coefficients of Eigen's
/// `erf<float>`); beyond, it is 1 within the same bound. Absolute error at most 5e-7.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let x = clamp(x, 4.0);
    let square = x * x;
    let mut p = -2.726_142e-10_f32;
    for coefficient in
        [2.770_681_5e-8, -2.101_024_e-6, -5.692_506_6e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2]
    {
        p = p * square + coefficient;
    }
    let mut q = -1.456_607_2e-5_f32;
    for coefficient in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
        q = q * square + coefficient;
    }
    x * p / q
}

#[inline(always)]
fn clamp(x: f32, limit: f32) -> f32 {
    let x = if x > limit { limit } else { x };
    if x < -limit { -limit } else { x }
}

/// e^x for x from -87 to 0, what softmax needs; smaller ones give about 1.6e-38. Relative error at most 2e-7.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts so that r is exact; e^r by a polynomial (the coefficients of
/// Cephes' `expf`, Moshier); 2^n by its bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_2e-4_f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        p = p * r + coefficient;
    }
    let power = f32::from_bits(((shifted.to_bits() as i32).wrapping_add(127) << 23) as u32);
    (p * r * r + r + 1.0) * power
}
