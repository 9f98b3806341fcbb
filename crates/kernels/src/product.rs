//! The product of quantised rows with packed weights, and what is done to a result before it is stored.

use crate::lanes::{Lanes, OUTPUTS, Quad};
use crate::pack::Finish;
use crate::{Activations, Weights, rows};

/// What is done to a result before it is stored: saves a pass over the values.
#[derive(Clone, Copy, Debug)]
pub enum Then<'a> {
    /// Nothing.
    Store,
    /// GELU, in its exact form by the error function.
    Gelu,
    /// The value of the same place is added: a residual connection. `[tokens, outputs]`.
    Add(&'a [f32]),
}

/// [`Then`] as a type, so that each has its own loop.
pub(crate) trait Last: Copy {
    /// Changes the values that are about to be stored at `at`; the first `count` count.
    fn apply(self, at: usize, count: usize, values: &mut [f32; OUTPUTS]);
}

#[derive(Clone, Copy)]
pub(crate) struct Store;

#[derive(Clone, Copy)]
pub(crate) struct Gelu;

#[derive(Clone, Copy)]
pub(crate) struct Add<'a>(pub(crate) &'a [f32]);

impl Last for Store {
    #[inline(always)]
    fn apply(self, _at: usize, _count: usize, _values: &mut [f32; OUTPUTS]) {}
}

impl Last for Gelu {
    #[inline(always)]
    fn apply(self, _at: usize, _count: usize, values: &mut [f32; OUTPUTS]) {
        for value in values {
            *value = rows::gelu(*value);
        }
    }
}

impl Last for Add<'_> {
    #[inline(always)]
    fn apply(self, at: usize, count: usize, values: &mut [f32; OUTPUTS]) {
        match self.0[at..at + count].first_chunk::<OUTPUTS>() {
            Some(whole) => values.iter_mut().zip(whole).for_each(|(value, x)| *value += x),
            None => values.iter_mut().zip(&self.0[at..at + count]).for_each(|(value, x)| *value += x),
        }
    }
}

/// Block after block of outputs, each for all tokens: a block's weights stay in the nearest cache.
#[inline(always)]
pub(crate) fn multiply<L: Lanes, T: Last>(
    activations: &Activations,
    weights: &Weights,
    last: T,
    out: &mut [f32],
) {
    let tokens = activations.tokens();
    // Equal tiles: twelve tokens are two times six, not eight and four.
    let tile = tokens.div_ceil(tokens.div_ceil(L::TOKENS).max(1));
    for group in 0..weights.groups() {
        for (output, count, quads, finish) in weights.blocks(group) {
            let block = Block { channel: group * weights.depth(), output, count, quads, finish };
            let mut token = 0;
            while token < tokens {
                let size = tile.min(tokens - token);
                match size {
                    1 => block.tile::<L, T, 1>(activations, token, weights.outputs(), last, out),
                    2 => block.tile::<L, T, 2>(activations, token, weights.outputs(), last, out),
                    3 => block.tile::<L, T, 3>(activations, token, weights.outputs(), last, out),
                    4 => block.tile::<L, T, 4>(activations, token, weights.outputs(), last, out),
                    5 => block.tile::<L, T, 5>(activations, token, weights.outputs(), last, out),
                    _ => block.tile::<L, T, 6>(activations, token, weights.outputs(), last, out),
                }
                token += size.min(6);
            }
        }
    }
}

struct Block<'a> {
    /// The first channel of its group.
    channel: usize,
    /// Its first output, and how many it has.
    output: usize,
    count: usize,
    quads: &'a [Quad],
    finish: &'a Finish,
}

impl Block<'_> {
    /// `N` tokens from `token` on.
    #[inline(always)]
    fn tile<L: Lanes, T: Last, const N: usize>(
        &self,
        activations: &Activations,
        token: usize,
        outputs: usize,
        last: T,
        out: &mut [f32],
    ) {
        let (bytes, channels) = (activations.bytes(L::UNSIGNED), activations.channels());
        let rows: [&[[u8; 4]]; N] = std::array::from_fn(|n| {
            let start = (token + n) * channels + self.channel;
            // One length for all: the compiler then checks no index in the loop.
            &bytes[start..start + self.quads.len() * 4].as_chunks().0[..self.quads.len()]
        });
        // SAFETY: this code is inlined into the `run` of the instruction set that `L` belongs to.
        let sums = unsafe {
            let mut sums = [L::zero(); N];
            for (index, quad) in self.quads.iter().enumerate() {
                let weights = L::load(quad);
                for n in 0..N {
                    sums[n] = L::add(sums[n], weights, u32::from_le_bytes(rows[n][index]));
                }
            }
            sums.map(|sums| L::store(sums))
        };
        for (n, sums) in sums.iter().enumerate() {
            let scale = activations.scales()[token + n];
            let mut values = [0.0; OUTPUTS];
            for lane in 0..OUTPUTS {
                let correction = if L::UNSIGNED { self.finish.corrections[lane] } else { 0 };
                let sum = (sums[lane] + correction) as f32;
                values[lane] = sum * scale * self.finish.scales[lane] + self.finish.biases[lane];
            }
            let at = (token + n) * outputs + self.output;
            last.apply(at, self.count, &mut values);
            match out[at..at + self.count].first_chunk_mut::<OUTPUTS>() {
                Some(whole) => *whole = values,
                None => out[at..at + self.count].copy_from_slice(&values[..self.count]),
            }
        }
    }
}
