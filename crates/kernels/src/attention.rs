//! Multi-head self-attention of one sequence in f32.

use std::ops::Range;

use crate::rows::{LANES, exp, larger, sum, tree};

/// The form of an attention, and its scratch memory.
#[derive(Debug, Default)]
pub struct Attention {
    heads: usize,
    channels: usize,
    /// One over the square root of a head's channels.
    scale: f32,
    /// Keys of one head, `[channels of a head, tokens rounded up to whole lanes]`.
    keys: Vec<f32>,
    /// Weights of one token.
    weights: Vec<f32>,
}

/// Channels of a head that are summed together; a head's channels are a multiple.
const WIDTH: usize = 2 * LANES;

impl Attention {
    /// An attention of this form, with memory of its own.
    ///
    /// # Panics
    /// As [`Attention::reshape`].
    pub fn new(heads: usize, channels: usize) -> Self {
        let mut attention = Self::default();
        attention.reshape(heads, channels);
        attention
    }

    /// Gives it another form, `channels` in `heads` equal parts; its memory stays.
    ///
    /// # Panics
    /// If a head's channels are not a multiple of sixteen.
    pub fn reshape(&mut self, heads: usize, channels: usize) {
        assert!(Self::fits(heads, channels), "each head needs a multiple of sixteen channels");
        self.heads = heads;
        self.channels = channels;
        self.scale = 1.0 / ((channels / heads) as f32).sqrt();
    }

    /// Whether the channels of a head are such that [`Attention::reshape`] takes them.
    pub fn fits(heads: usize, channels: usize) -> bool {
        heads > 0
            && channels > 0
            && channels.is_multiple_of(heads)
            && (channels / heads).is_multiple_of(WIDTH)
    }

    #[inline(always)]
    pub(crate) fn attend(
        &mut self,
        tokens: Range<usize>,
        [query, key, value]: [&[f32]; 3],
        context: &mut [f32],
    ) {
        let (channels, size) = (self.channels, self.channels / self.heads);
        let rows = tokens.start * channels..tokens.end * channels;
        let (query, key, value) = (&query[rows.clone()], &key[rows.clone()], &value[rows.clone()]);
        let context = &mut context[rows];
        let count = tokens.len();
        let padded = count.next_multiple_of(LANES);
        self.keys.clear();
        self.keys.resize(size * padded, 0.0);
        self.weights.clear();
        self.weights.resize(padded, 0.0);
        for head in 0..self.heads {
            let part = head * size..(head + 1) * size;
            for (token, row) in key.chunks_exact(channels).enumerate() {
                for (channel, value) in row[part.clone()].iter().enumerate() {
                    self.keys[channel * padded + token] = *value;
                }
            }
            for (row, out) in query.chunks_exact(channels).zip(context.chunks_exact_mut(channels)) {
                scores(&row[part.clone()], &self.keys, self.scale, &mut self.weights);
                softmax(&mut self.weights, count);
                for first in part.clone().step_by(WIDTH) {
                    let mut sums = [0.0; WIDTH];
                    for (weight, row) in self.weights.iter().zip(value.chunks_exact(channels)) {
                        let Some(values) = row[first..].first_chunk::<WIDTH>() else { break };
                        for lane in 0..WIDTH {
                            sums[lane] += weight * values[lane];
                        }
                    }
                    if let Some(out) = out[first..].first_chunk_mut::<WIDTH>() {
                        *out = sums;
                    }
                }
            }
        }
    }
}

/// One token's products with all keys.
#[inline(always)]
fn scores(query: &[f32], keys: &[f32], scale: f32, out: &mut [f32]) {
    let padded = out.len();
    for (block, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let mut sums = [0.0; LANES];
        for (query, keys) in query.iter().zip(keys.chunks_exact(padded)) {
            let Some(keys) = keys[block * LANES..].first_chunk::<LANES>() else { break };
            for lane in 0..LANES {
                sums[lane] += query * keys[lane];
            }
        }
        *out = sums.map(|sum| sum * scale);
    }
}

/// Softmax over the first `count` values; those behind become zero.
#[inline(always)]
fn softmax(values: &mut [f32], count: usize) {
    values[count..].fill(f32::NEG_INFINITY);
    let mut largest = [f32::NEG_INFINITY; LANES];
    for chunk in values.as_chunks::<LANES>().0 {
        for lane in 0..LANES {
            largest[lane] = larger(largest[lane], chunk[lane]);
        }
    }
    let largest = tree(largest, larger);
    for chunk in values.as_chunks_mut::<LANES>().0 {
        *chunk = chunk.map(|value| exp(value - largest));
    }
    values[count..].fill(0.0);
    let total = sum(values, |value| value);
    for value in values {
        *value /= total;
    }
}
