//! Activations in 8 bits, one scale per token.

use crate::lanes::Lanes;
use crate::rows::{self, LANES};

/// Quantised activations. Reused from call to call: its memory grows to the longest sequence seen and stays.
#[derive(Debug, Default)]
pub struct Activations {
    channels: usize,
    /// `[tokens, channels]`, the bytes of s8, or of u8 with zero point 128.
    bytes: Vec<u8>,
    unsigned: bool,
    scales: Vec<f32>,
}

/// 1/127 as the ONNX export writes it: the scale is a product, not a quotient, so that both round alike.
const STEP: f32 = 1.0 / 127.0;

/// Keeps an all-zero token from dividing by zero.
const SMALLEST_SCALE: f32 = 1e-8;

/// 1.5 x 2^23: adding it to a small f32 rounds that half to even and leaves the integer in the low bits. `round` is a
/// library call on CPUs without SSE4.1, and a saturating conversion costs several instructions.
const ROUND: f32 = 12_582_912.0;

/// Xor with it turns signed bytes into u8 with zero point 128, and back.
const ZERO_POINT: u8 = 0x80;

impl Activations {
    /// Number of channels of each token.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.scales.len()
    }

    /// Each token's scale.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The integer of one channel of one token, whatever the form: for tests and inspection.
    pub fn integer(&self, token: usize, channel: usize) -> i8 {
        let byte = self.bytes[token * self.channels + channel];
        (if self.unsigned { byte ^ ZERO_POINT } else { byte }) as i8
    }

    /// The bytes of the tokens, as a kernel of this signedness reads them.
    pub(crate) fn bytes(&self, unsigned: bool) -> &[u8] {
        assert_eq!(self.unsigned, unsigned, "another kernel quantised these activations");
        &self.bytes
    }
}

#[inline(always)]
pub(crate) fn quantise<L: Lanes>(x: &[f32], channels: usize, out: &mut Activations) {
    let zero_point = if L::UNSIGNED { ZERO_POINT } else { 0 };
    out.channels = channels;
    out.unsigned = L::UNSIGNED;
    out.scales.clear();
    out.bytes.resize(x.len(), 0);
    for (row, bytes) in x.chunks_exact(channels).zip(out.bytes.chunks_exact_mut(channels)) {
        let scale = rows::largest_magnitude(row) * STEP;
        let scale = if scale > SMALLEST_SCALE { scale } else { SMALLEST_SCALE };
        out.scales.push(scale);
        let (whole, rest) = row.as_chunks::<LANES>();
        let (whole_bytes, rest_bytes) = bytes.as_chunks_mut::<LANES>();
        for (values, bytes) in whole.iter().zip(whole_bytes) {
            *bytes = values.map(|value| integer(value, scale) ^ zero_point);
        }
        for (value, byte) in rest.iter().zip(rest_bytes) {
            *byte = integer(*value, scale) ^ zero_point;
        }
    }
}

/// The two's complement of a number in -127..=127.
#[inline(always)]
fn integer(value: f32, scale: f32) -> u8 {
    (value / scale + ROUND).to_bits() as u8
}
