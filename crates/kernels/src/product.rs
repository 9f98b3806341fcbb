//! The product of quantised rows with packed weights, and what is done to a result before it is stored.

use crate::floats::{Floats, LANES};
use crate::lanes::{Channels, Cpu, OUTPUTS, Quad, Tile};
use crate::pack::{self, Finish};
use crate::{Activations, Weights, rows};

/// Vectors of a block.
const PARTS: usize = OUTPUTS / LANES;

/// What is done to a result before it is stored: saves a pass over the values.
#[derive(Clone, Copy, Debug)]
pub enum Then<'a> {
    /// Nothing.
    Store,
    /// GELU, in its exact form (not the one by tanh), to 1e-5 of its argument.
    Gelu,
    /// The value of the same place is added: a residual connection. `[tokens, outputs]`.
    Add(&'a [f32]),
}

/// [`Then`] as a type, so that each has its own loop.
pub(crate) trait Last: Copy {
    /// Changes vectors that are about to be stored, each at its place. Unless `WHOLE`, a vector may reach over the end of
    /// all outputs; what stands there does not matter.
    fn apply<F: Floats, const N: usize, const WHOLE: bool>(
        self,
        cpu: F::Cpu,
        at: [usize; N],
        values: [F; N],
    ) -> [F; N];
}

#[derive(Clone, Copy)]
pub(crate) struct Store;

#[derive(Clone, Copy)]
pub(crate) struct Gelu;

#[derive(Clone, Copy)]
pub(crate) struct Add<'a>(pub(crate) &'a [f32]);

impl Last for Store {
    #[inline(always)]
    fn apply<F: Floats, const N: usize, const WHOLE: bool>(
        self,
        _cpu: F::Cpu,
        _at: [usize; N],
        values: [F; N],
    ) -> [F; N] {
        values
    }
}

impl Last for Gelu {
    #[inline(always)]
    fn apply<F: Floats, const N: usize, const WHOLE: bool>(
        self,
        cpu: F::Cpu,
        _at: [usize; N],
        values: [F; N],
    ) -> [F; N] {
        rows::gelu(cpu, values)
    }
}

impl Last for Add<'_> {
    #[inline(always)]
    fn apply<F: Floats, const N: usize, const WHOLE: bool>(
        self,
        cpu: F::Cpu,
        at: [usize; N],
        mut values: [F; N],
    ) -> [F; N] {
        for n in 0..N {
            let x = &self.0[at[n]..];
            let mut padded = [0.0; LANES];
            let x = if WHOLE || x.len() >= LANES {
                x.first_chunk().expect("a full block lies within its row")
            } else {
                padded[..x.len()].copy_from_slice(x);
                &padded
            };
            values[n] = values[n] + F::load(cpu, x);
        }
        values
    }
}

/// Block after block of outputs, each for all tokens: a block's weights stay in the nearest cache.
#[inline(always)]
pub(crate) fn multiply<T: Tile, L: Last>(
    cpu: Cpu<T>,
    activations: &Activations,
    weights: &Weights,
    last: L,
    out: &mut [f32],
) {
    let tokens = activations.tokens();
    // Equal tiles: five tokens are three and two, not four and one.
    let tiles = tokens.div_ceil(T::TOKENS).max(1);
    let tile = tokens.div_ceil(tiles);
    // Each tile asks for a part of the weights of the block that comes next.
    let share = (weights.depth() / 4).div_ceil(tiles);
    for group in 0..weights.groups() {
        for packed in weights.blocks(group) {
            let pack::Block { output, count, quads, mut next, finish } = packed;
            let (channel, outputs) = (group * weights.depth(), weights.outputs());
            let mut block = Block { cpu, activations, channel, output, outputs, quads, finish, last, out };
            if count < OUTPUTS {
                (0..tokens).for_each(|token| block.part::<T>(token, count));
                continue;
            }
            let mut token = 0;
            while token < tokens {
                let size = tile.min(tokens - token);
                let (now, later) = next.split_at(share.min(next.len()));
                T::prefetch(now);
                next = later;
                // The tile is never larger; said here, the compiler leaves out what is.
                match size.min(T::TOKENS) {
                    ..=1 => block.whole::<T, 1>(token),
                    2 => block.whole::<T, 2>(token),
                    3 => block.whole::<T, 3>(token),
                    4 => block.whole::<T, 4>(token),
                    5 if T::TOKENS > 4 => block.whole::<T, 5>(token),
                    6 if T::TOKENS > 4 => block.whole::<T, 6>(token),
                    7 if T::TOKENS > 6 => block.whole::<T, 7>(token),
                    8 if T::TOKENS > 6 => block.whole::<T, 8>(token),
                    _ => unreachable!("no tile of {size} tokens"),
                }
                token += size;
            }
        }
    }
}

/// A block of outputs and all that its values are made of and go to.
struct Block<'a, C, L> {
    cpu: C,
    activations: &'a Activations,
    /// The first channel of its group.
    channel: usize,
    /// Its first output, and how many outputs the product has.
    output: usize,
    outputs: usize,
    quads: &'a [Quad],
    finish: &'a Finish,
    last: L,
    out: &'a mut [f32],
}

impl<C: Copy, L: Last> Block<'_, C, L> {
    /// All of the block's outputs of `N` tokens from `token` on.
    #[inline(always)]
    fn whole<T: Tile, const N: usize>(&mut self, token: usize)
    where
        T::Floats: Floats<Cpu = C>,
    {
        let sums = self.sums::<T, N>(token);
        let first = token * self.outputs + self.output;
        for part in 0..PARTS {
            let mut at = [first + part * LANES; N];
            let mut values = [T::Floats::splat(self.cpu, 0.0); N];
            for n in 0..N {
                at[n] += n * self.outputs;
                values[n] = self.scale::<T>(&sums[n], part, token + n);
            }
            let values = self.last.apply::<_, N, true>(self.cpu, at, values);
            for n in 0..N {
                let to = self.out[at[n]..].first_chunk_mut();
                values[n].store(to.expect("a full block lies within its row"));
            }
        }
    }

    /// The first `count` outputs of one token, of a block that is not full.
    #[inline(always)]
    fn part<T: Tile>(&mut self, token: usize, count: usize)
    where
        T::Floats: Floats<Cpu = C>,
    {
        let [sums] = self.sums::<T, 1>(token);
        let at = token * self.outputs + self.output;
        let mut row = [0.0; OUTPUTS];
        for (part, to) in row.as_chunks_mut().0.iter_mut().enumerate().take(count.div_ceil(LANES)) {
            let values = self.scale::<T>(&sums, part, token);
            let [values] = self.last.apply::<_, 1, false>(self.cpu, [at + part * LANES], [values]);
            values.store(to);
        }
        self.out[at..at + count].copy_from_slice(&row[..count]);
    }

    #[inline(always)]
    fn sums<T: Tile, const N: usize>(&self, token: usize) -> [[i32; OUTPUTS]; N] {
        let (bytes, channels) = (self.activations.bytes(T::UNSIGNED), self.activations.channels());
        let rows: [&[Channels]; N] = std::array::from_fn(
            #[inline(always)]
            |n| bytes[(token + n) * channels + self.channel..].as_chunks().0,
        );
        let start = if T::UNSIGNED { &self.finish.corrections } else { &[0; OUTPUTS] };
        // SAFETY: this code is inlined into the `run` of the instruction set that `T` belongs to.
        unsafe { T::sums(start, rows, self.quads) }
    }

    /// Values of a part of the block's outputs.
    #[inline(always)]
    fn scale<T: Tile>(&self, sums: &[i32; OUTPUTS], part: usize, token: usize) -> T::Floats
    where
        T::Floats: Floats<Cpu = C>,
    {
        let (cpu, finish) = (self.cpu, self.finish);
        let load = |all: &[f32; OUTPUTS]| T::Floats::load(cpu, &all.as_chunks().0[part]);
        let sums = T::Floats::from_integers(cpu, &sums.as_chunks().0[part]);
        let scaled = sums * T::Floats::splat(cpu, self.activations.scales()[token]);
        scaled.times_plus(load(&finish.scales), load(&finish.biases))
    }
}
