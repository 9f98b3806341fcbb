//! Activations in 8 bits, one scale per token.

use crate::floats::{BYTES, Floats, LANES};
use crate::lanes::{Cpu, Tile};
use crate::rows;

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
pub(crate) fn quantise<T: Tile>(cpu: Cpu<T>, x: &[f32], channels: usize, out: &mut Activations) {
    let flip = if T::UNSIGNED { ZERO_POINT } else { 0 };
    out.channels = channels;
    out.unsigned = T::UNSIGNED;
    out.scales.clear();
    out.bytes.resize(x.len(), 0);
    for (row, bytes) in x.chunks_exact(channels).zip(out.bytes.chunks_exact_mut(channels)) {
        let scale = rows::largest_magnitude::<T::Floats>(cpu, row) * STEP;
        let scale = if scale > SMALLEST_SCALE { scale } else { SMALLEST_SCALE };
        out.scales.push(scale);
        let factor = 1.0 / scale;
        let (whole, rest) = row.as_chunks::<BYTES>();
        let (whole_bytes, rest_bytes) = bytes.as_chunks_mut::<BYTES>();
        for (values, bytes) in whole.iter().zip(whole_bytes) {
            round::<T>(cpu, values, factor, flip, bytes);
        }
        if !rest.is_empty() {
            let (mut values, mut bytes) = ([0.0; BYTES], [0; BYTES]);
            values[..rest.len()].copy_from_slice(rest);
            round::<T>(cpu, &values, factor, flip, &mut bytes);
            rest_bytes.copy_from_slice(&bytes[..rest.len()]);
        }
    }
}

#[inline(always)]
fn round<T: Tile>(cpu: Cpu<T>, values: &[f32; BYTES], factor: f32, flip: u8, bytes: &mut [u8; BYTES]) {
    let factor = T::Floats::splat(cpu, factor);
    let mut vectors = [factor; BYTES / LANES];
    for (vector, values) in vectors.iter_mut().zip(values.as_chunks().0) {
        *vector = T::Floats::load(cpu, values) * factor;
    }
    T::Floats::round(vectors, flip, bytes);
}
