//! Multi-head self-attention of one sequence in f32.

use std::ops::Range;

use crate::floats::{Floats, LANES};
use crate::rows::{exp, largest, sum};

/// Vectors of keys, or of channels, that are computed together.
const VECTORS: usize = 2;
const WIDTH: usize = VECTORS * LANES;

/// Queries that share one load of keys and values.
const QUERIES: usize = 4;

/// One channel of a block of tokens, or one token's block of channels, in parts of as many as are laid out at once.
type Row = [[f32; QUERIES]; WIDTH / QUERIES];

/// The form of an attention, and its scratch memory.
#[derive(Debug, Default)]
pub struct Attention {
    heads: usize,
    channels: usize,
    /// One over the square root of a head's channels.
    scale: f32,
    /// Keys of one head, `[blocks of tokens, channels, tokens of a block]`; zeros behind the last token.
    keys: Vec<Row>,
    /// Values of one head, `[blocks of channels, tokens, channels of a block]`. Rows of all heads lie so far apart that
    /// they would drive each other out of the nearest cache.
    values: Vec<Row>,
    /// Queries that are at work, `[channels, queries]`, scaled.
    queries: Vec<[f32; QUERIES]>,
    /// Their products with the keys, `[queries, tokens rounded up to whole blocks]`.
    scores: Vec<f32>,
    /// What softmax makes of them, `[tokens, queries]`.
    weights: Vec<[f32; QUERIES]>,
}

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
    pub(crate) fn attend<F: Floats>(
        &mut self,
        cpu: F::Cpu,
        tokens: Range<usize>,
        [query, key, value]: [&[f32]; 3],
        context: &mut [f32],
    ) {
        let (channels, size) = (self.channels, self.channels / self.heads);
        let rows = tokens.start * channels..tokens.end * channels;
        let (query, key, value) = (&query[rows.clone()], &key[rows.clone()], &value[rows.clone()]);
        let context = &mut context[rows];
        self.reserve(tokens.len());
        for part in (0..self.heads).map(|head| head * size..(head + 1) * size) {
            self.lay_out(key, value, part.clone());
            let queries = query.chunks(QUERIES * channels).zip(context.chunks_mut(QUERIES * channels));
            for (queries, context) in queries {
                let rows = neighbours(queries, channels, part.clone());
                for (to, values) in self.queries.iter_mut().zip(interleave(rows)) {
                    *to = values.map(|value| value * self.scale);
                }
                self.score::<F>(cpu);
                let factors = self.soften::<F>(cpu);
                self.gather::<F>(cpu, factors, context, part.start);
            }
        }
    }

    fn reserve(&mut self, tokens: usize) {
        let (size, padded) = (self.channels / self.heads, tokens.next_multiple_of(WIDTH));
        self.keys.clear();
        self.keys.resize(padded / WIDTH * size, Row::default());
        self.values.resize(tokens * size / WIDTH, Row::default());
        self.queries.resize(size, [0.0; QUERIES]);
        self.scores.resize(QUERIES * padded, 0.0);
        self.weights.resize(tokens, [0.0; QUERIES]);
    }

    /// Takes one head's part of the rows of all.
    #[inline(always)]
    fn lay_out(&mut self, key: &[f32], value: &[f32], part: Range<usize>) {
        let (channels, tokens) = (self.channels, self.weights.len());
        for (index, rows) in key.chunks(QUERIES * channels).enumerate() {
            let (block, at) = (index * QUERIES / WIDTH, index % (WIDTH / QUERIES));
            let columns = self.keys[block * part.len()..].iter_mut();
            for (column, values) in columns.zip(interleave(neighbours(rows, channels, part.clone()))) {
                column[at] = values;
            }
        }
        for (token, row) in value.chunks_exact(channels).enumerate() {
            let blocks = row[part.clone()].as_chunks().0.as_chunks().0;
            for (block, values) in blocks.iter().enumerate() {
                self.values[block * tokens + token] = *values;
            }
        }
    }

    /// Products of the queries with all keys.
    #[inline(always)]
    fn score<F: Floats>(&mut self, cpu: F::Cpu) {
        let padded = self.scores.len() / QUERIES;
        for (block, keys) in self.keys.chunks_exact(self.queries.len()).enumerate() {
            let sums = sum_products::<F>(cpu, &self.queries, keys);
            for (scores, sums) in self.scores.chunks_exact_mut(padded).zip(sums) {
                store(sums, &mut scores[block * WIDTH..]);
            }
        }
    }

    /// Softmax of each query's scores, but for the division by their sum: returns what it makes a factor.
    #[inline(always)]
    fn soften<F: Floats>(&mut self, cpu: F::Cpu) -> [f32; QUERIES] {
        let (padded, tokens) = (self.scores.len() / QUERIES, self.weights.len());
        let mut factors = [0.0; QUERIES];
        for (factor, scores) in factors.iter_mut().zip(self.scores.chunks_exact_mut(padded)) {
            *factor = 1.0 / exponentials::<F>(cpu, scores, tokens);
        }
        let rows = neighbours(&self.scores, padded, 0..tokens);
        self.weights.iter_mut().zip(interleave(rows)).for_each(|(to, values)| *to = values);
        factors
    }

    /// Sums of values by weights, times a factor for each query, into rows of all channels.
    #[inline(always)]
    fn gather<F: Floats>(&self, cpu: F::Cpu, factors: [f32; QUERIES], context: &mut [f32], start: usize) {
        for (block, values) in self.values.chunks_exact(self.weights.len()).enumerate() {
            let sums = sum_products::<F>(cpu, &self.weights, values);
            for ((row, sums), factor) in context.chunks_exact_mut(self.channels).zip(sums).zip(factors) {
                let factor = F::splat(cpu, factor);
                store([sums[0] * factor, sums[1] * factor], &mut row[start + block * WIDTH..]);
            }
        }
    }
}

/// A part of four neighbouring rows; where there are fewer, the last one stands for the others.
#[inline(always)]
fn neighbours(rows: &[f32], width: usize, part: Range<usize>) -> [&[f32]; QUERIES] {
    let last = rows.len() / width - 1;
    let row = |n: usize| &rows[n.min(last) * width..][part.clone()];
    [row(0), row(1), row(2), row(3)]
}

/// The values of four rows side by side.
#[inline(always)]
fn interleave<'a>([a, b, c, d]: [&'a [f32]; QUERIES]) -> impl Iterator<Item = [f32; QUERIES]> + 'a {
    a.iter().zip(b).zip(c).zip(d).map(
        #[inline(always)]
        |(((a, b), c), d)| [*a, *b, *c, *d],
    )
}

/// Each query's sum of rows times its factors.
#[inline(always)]
fn sum_products<F: Floats>(cpu: F::Cpu, factors: &[[f32; QUERIES]], rows: &[Row]) -> [[F; VECTORS]; QUERIES] {
    let mut sums = [[F::splat(cpu, 0.0); VECTORS]; QUERIES];
    for (factors, row) in factors.iter().zip(rows) {
        let row = row.as_flattened().as_chunks().0;
        for n in 0..QUERIES {
            let factor = F::splat(cpu, factors[n]);
            for v in 0..VECTORS {
                sums[n][v] = factor.times_plus(F::load(cpu, &row[v]), sums[n][v]);
            }
        }
    }
    sums
}

#[inline(always)]
fn store<F: Floats>(vectors: [F; VECTORS], to: &mut [f32]) {
    for (to, vector) in to.as_chunks_mut().0.iter_mut().zip(vectors) {
        vector.store(to);
    }
}

/// e to the power of each of the first `count` values less the largest of them, and next to nothing behind: too little
/// to change the sum, which is returned and at least 1.
#[inline(always)]
fn exponentials<F: Floats>(cpu: F::Cpu, values: &mut [f32], count: usize) -> f32 {
    values[count..].fill(f32::NEG_INFINITY);
    let largest = F::splat(cpu, largest::<F>(cpu, values));
    for values in values.as_chunks_mut().0 {
        exp(cpu, F::load(cpu, values) - largest).store(values);
    }
    sum::<F>(cpu, values)
}
