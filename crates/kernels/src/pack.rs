//! Weights in 7 bits, checked and laid out once.

use crate::lanes::{OUTPUTS, Quad};

/// Weights of a product: `outputs x depth` integers from -64 to 64, with one scale and one bias per output. The inputs
/// fall into `groups` equal parts of `depth` channels, and each group's outputs read only their own part.
///
/// Each group's outputs lie in blocks of sixteen; the last one is filled up with zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    outputs: usize,
    groups: usize,
    /// Channels of one group.
    depth: usize,
    /// `[groups, blocks of outputs, depth / 4]`.
    quads: Vec<Quad>,
    /// `[groups, blocks of outputs]`.
    finish: Vec<Finish>,
}

/// What turns the sums of a block into values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finish {
    /// -128 times each output's sum of weights: undoes the zero point where activations are u8.
    pub(crate) corrections: [i32; OUTPUTS],
    pub(crate) scales: [f32; OUTPUTS],
    pub(crate) biases: [f32; OUTPUTS],
}

/// Why weights cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightsError {
    /// The number of channels of a group is zero or no multiple of four.
    Depth(usize),
    /// The number of outputs is zero or no multiple of the number of groups.
    Groups {
        /// Number of outputs.
        outputs: usize,
        /// Number of groups.
        groups: usize,
    },
    /// Integers, scales and biases are not as many as outputs and depth say.
    Sizes,
    /// Two neighbouring weights of this output have magnitudes over 128 together: two products of them with
    /// activations would not fit into 16 bits, and CPUs would disagree.
    TooLarge(usize),
}

/// Two neighbouring magnitudes together: 255 x 128 = 32,640 fits into 16 bits with sign.
const PAIR_LIMIT: u32 = 128;

impl Weights {
    /// Checks and lays out `integers`, `[outputs, depth]`.
    pub fn new(
        integers: &[i8],
        groups: usize,
        scales: Vec<f32>,
        biases: Vec<f32>,
    ) -> Result<Self, WeightsError> {
        let outputs = scales.len();
        if outputs == 0 || groups == 0 || !outputs.is_multiple_of(groups) {
            return Err(WeightsError::Groups { outputs, groups });
        }
        let depth = integers.len() / outputs;
        if depth == 0 || !depth.is_multiple_of(4) {
            return Err(WeightsError::Depth(depth));
        }
        if integers.len() != outputs * depth || biases.len() != outputs {
            return Err(WeightsError::Sizes);
        }
        for (output, row) in integers.chunks_exact(depth).enumerate() {
            let pair = |pair: &[i8]| u32::from(pair[0].unsigned_abs()) + u32::from(pair[1].unsigned_abs());
            if row.chunks_exact(2).any(|two| pair(two) > PAIR_LIMIT) {
                return Err(WeightsError::TooLarge(output));
            }
        }
        let (mut quads, mut finish) = (Vec::new(), Vec::new());
        for group in 0..groups {
            let rows = group * outputs / groups..(group + 1) * outputs / groups;
            for first in rows.clone().step_by(OUTPUTS) {
                let block = first..rows.end.min(first + OUTPUTS);
                quads.extend((0..depth).step_by(4).map(|channel| quad(integers, depth, &block, channel)));
                finish.push(Finish::of(integers, depth, &block, &scales, &biases));
            }
        }
        Ok(Self { outputs, groups, depth, quads, finish })
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Number of input channels over all groups.
    pub fn inputs(&self) -> usize {
        self.groups * self.depth
    }

    /// Number of groups.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Channels that each output reads.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Outputs of one group.
    pub(crate) fn outputs_per_group(&self) -> usize {
        self.outputs / self.groups
    }

    /// The blocks of one group: where each block's outputs begin and how many they are, its weights, and what follows.
    pub(crate) fn blocks(&self, group: usize) -> impl Iterator<Item = (usize, usize, &[Quad], &Finish)> {
        let per_group = self.outputs_per_group();
        let (blocks, quads) = (per_group.div_ceil(OUTPUTS), self.depth / 4);
        (0..blocks).map(move |block| {
            let (index, first) = (group * blocks + block, block * OUTPUTS);
            let count = OUTPUTS.min(per_group - first);
            let weights = &self.quads[index * quads..(index + 1) * quads];
            (group * per_group + first, count, weights, &self.finish[index])
        })
    }
}

/// Four channels of each output of a block.
fn quad(integers: &[i8], depth: usize, outputs: &std::ops::Range<usize>, channel: usize) -> Quad {
    let mut quad = Quad::default();
    for (weights, output) in quad.iter_mut().zip(outputs.clone()) {
        weights.copy_from_slice(&integers[output * depth + channel..][..4]);
    }
    quad
}

impl Finish {
    fn of(
        integers: &[i8],
        depth: usize,
        outputs: &std::ops::Range<usize>,
        scales: &[f32],
        biases: &[f32],
    ) -> Self {
        let mut finish = Self { corrections: [0; OUTPUTS], scales: [0.0; OUTPUTS], biases: [0.0; OUTPUTS] };
        for (lane, output) in outputs.clone().enumerate() {
            let row = &integers[output * depth..(output + 1) * depth];
            finish.corrections[lane] = -128 * row.iter().map(|&weight| i32::from(weight)).sum::<i32>();
            finish.scales[lane] = scales[output];
            finish.biases[lane] = biases[output];
        }
        finish
    }
}

impl std::fmt::Display for WeightsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Depth(depth) => {
                write!(f, "{depth} channels in a group; it must be a multiple of four")
            }
            Self::Groups { outputs, groups } => {
                write!(f, "{outputs} outputs do not fall into {groups} groups")
            }
            Self::Sizes => f.write_str("weights, scales and biases do not fit together"),
            Self::TooLarge(output) => write!(
                f,
                "output {output}: two neighbouring weights exceed {PAIR_LIMIT} together; quantise weights to 7 bits"
            ),
        }
    }
}

impl std::error::Error for WeightsError {}
