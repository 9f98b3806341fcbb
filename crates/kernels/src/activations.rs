//! Activations in 8 bits, one scale per token, in the layout that a kernel reads.

/// Quantised activations. Reused from call to call: its memory grows to the longest sequence seen and stays.
#[derive(Debug, Default)]
pub struct Activations {
    channels: usize,
    tokens: usize,
    layout: Layout,
    /// One per token, then zeros up to a whole block.
    scales: Vec<f32>,
    /// `[tokens, channels]`, signed, already as wide as multiplications on most CPUs want it.
    rows: Vec<i16>,
    /// `[blocks of tokens, channels / 4]` of one u32 per token: four neighbouring channels, the first in the lowest
    /// byte, as u8 with zero point 128. What lies beyond the last token is arbitrary.
    #[cfg(target_arch = "x86_64")]
    quads: Vec<[u32; BLOCK]>,
}

/// Tokens of a block: f32 or i32 lanes of a 256-bit register.
pub(crate) const BLOCK: usize = 8;

/// Which of the two arrays holds the integers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Layout {
    /// For dot products along the channels: what compilers vectorise well on their own.
    #[default]
    Rows,
    /// For instructions that sum four byte products per 32-bit lane: `vpmaddubsw` with `vpmaddwd`, `vpdpbusd`, `sdot`.
    #[cfg(target_arch = "x86_64")]
    Quads,
}

/// 1/127 as the ONNX export writes it: the scale is a product, not a quotient, so that both round alike.
const STEP: f32 = 1.0 / 127.0;

/// Keeps an all-zero token from dividing by zero.
const SMALLEST_SCALE: f32 = 1e-8;

/// 1.5 x 2^23: adding it to a small f32 rounds that half to even and leaves the integer in the low bits. `round` is a
/// library call on CPUs without SSE4.1, and a saturating conversion costs several instructions.
const ROUND: f32 = 12_582_912.0;

impl Activations {
    /// Number of channels of each token.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Each token's scale.
    pub fn scales(&self) -> &[f32] {
        &self.scales[..self.tokens]
    }

    /// The integer of one channel of one token, whatever the layout: for tests and inspection.
    pub fn integer(&self, token: usize, channel: usize) -> i8 {
        match self.layout {
            Layout::Rows => self.rows[token * self.channels + channel] as i8,
            #[cfg(target_arch = "x86_64")]
            Layout::Quads => {
                let block = token / BLOCK * (self.channels / 4);
                let lane = self.quads[block + channel / 4][token % BLOCK] ^ ZERO_POINTS;
                lane.to_le_bytes()[channel % 4] as i8
            }
        }
    }

    /// Scales padded to whole blocks.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn padded_scales(&self) -> &[f32] {
        &self.scales
    }

    /// Signed integers, `[tokens, channels]`.
    pub(crate) fn rows(&self) -> &[i16] {
        assert_eq!(self.layout, Layout::Rows, "another kernel quantised these activations");
        &self.rows
    }

    /// Blocks of tokens, each of `channels / 4` quads.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn quads(&self) -> &[[u32; BLOCK]] {
        assert_eq!(self.layout, Layout::Quads, "another kernel quantised these activations");
        &self.quads
    }

    pub(crate) fn quantise_rows(&mut self, x: &[f32], channels: usize, tokens: usize) {
        self.start(Layout::Rows, channels, tokens);
        self.rows.resize(channels * tokens, 0);
        for first in (0..tokens).step_by(BLOCK) {
            let scale = block_scales(x, tokens, first);
            store_scales(&mut self.scales, first, tokens, &scale);
            let lanes = BLOCK.min(tokens - first);
            let rows = &mut self.rows[first * channels..(first + lanes) * channels];
            for (channel, start) in (first..x.len()).step_by(tokens).enumerate() {
                let integers = quantise_lanes(&load(x, start), &scale);
                for (lane, integer) in integers[..lanes].iter().enumerate() {
                    rows[lane * channels + channel] = i16::from(*integer as u8 as i8);
                }
            }
        }
    }

    /// Inlined into a function with the instruction set of the kernel that reads the quads.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn quantise_quads(&mut self, x: &[f32], channels: usize, tokens: usize) {
        self.start(Layout::Quads, channels, tokens);
        let quads = channels / 4;
        self.quads.resize(tokens.div_ceil(BLOCK) * quads, [0; BLOCK]);
        for (block, out) in self.quads.chunks_exact_mut(quads.max(1)).enumerate() {
            let first = block * BLOCK;
            let scale = block_scales(x, tokens, first);
            store_scales(&mut self.scales, first, tokens, &scale);
            for (quad, lanes) in out.iter_mut().enumerate() {
                let mut packed = [ZERO_POINTS; BLOCK];
                for part in 0..4 {
                    let start = (quad * 4 + part) * tokens + first;
                    let integers = quantise_lanes(&load(x, start), &scale);
                    for lane in 0..BLOCK {
                        packed[lane] ^= (integers[lane] & 0xff) << (8 * part);
                    }
                }
                *lanes = packed;
            }
        }
    }

    fn start(&mut self, layout: Layout, channels: usize, tokens: usize) {
        self.layout = layout;
        self.channels = channels;
        self.tokens = tokens;
        self.scales.clear();
        self.scales.resize(tokens.next_multiple_of(BLOCK), 0.0);
    }
}

/// Xor with it turns signed bytes into u8 with zero point 128, and back.
#[cfg(target_arch = "x86_64")]
const ZERO_POINTS: u32 = 0x8080_8080;

/// Row scales of the block of tokens that begins at `first`.
#[inline(always)]
fn block_scales(x: &[f32], tokens: usize, first: usize) -> [f32; BLOCK] {
    let mut largest = [0.0_f32; BLOCK];
    for start in (first..x.len()).step_by(tokens.max(1)) {
        let values = load(x, start);
        for lane in 0..BLOCK {
            let magnitude = values[lane].abs();
            // Written so that it is one instruction; `f32::max` needs more, for values that are no numbers.
            largest[lane] = if magnitude > largest[lane] { magnitude } else { largest[lane] };
        }
    }
    largest.map(|magnitude| {
        let scale = magnitude * STEP;
        if scale > SMALLEST_SCALE { scale } else { SMALLEST_SCALE }
    })
}

#[inline(always)]
fn store_scales(scales: &mut [f32], first: usize, tokens: usize, scale: &[f32; BLOCK]) {
    let lanes = BLOCK.min(tokens - first);
    scales[first..first + lanes].copy_from_slice(&scale[..lanes]);
}

/// Eight values from `start`. Lanes beyond the last token carry the next channel's values, or zero at the very end:
/// nobody reads what becomes of them, and a whole load is cheaper than a partial one.
#[inline(always)]
fn load(x: &[f32], start: usize) -> [f32; BLOCK] {
    match x[start..].first_chunk() {
        Some(values) => *values,
        None => {
            let mut values = [0.0; BLOCK];
            values[..x.len() - start].copy_from_slice(&x[start..]);
            values
        }
    }
}

/// Integers of one channel of a block; the low byte of each is the two's complement of a number in -127..=127.
#[inline(always)]
fn quantise_lanes(values: &[f32; BLOCK], scale: &[f32; BLOCK]) -> [u32; BLOCK] {
    let mut integers = [0; BLOCK];
    for lane in 0..BLOCK {
        integers[lane] = (values[lane] / scale[lane] + ROUND).to_bits();
    }
    integers
}
