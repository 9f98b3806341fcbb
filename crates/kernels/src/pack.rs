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
    /// A weight of this output has a magnitude over 64: some CPUs sum products in 16 bits, which would not hold them.
    TooLarge(usize),
}

/// The largest magnitude: two products with u8 (255 x 64 each; x86) and four with s8 (127 x 64 each; ARM) then fit into
/// 16 bits with sign.
pub(crate) const LIMIT: u8 = 64;

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
            if row.iter().any(|weight| weight.unsigned_abs() > LIMIT) {
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

    pub(crate) fn blocks(&self, group: usize) -> impl Iterator<Item = Block<'_>> {
        let per_group = self.outputs_per_group();
        let (blocks, quads) = (per_group.div_ceil(OUTPUTS), self.depth / 4);
        (0..blocks).map(move |block| {
            let (index, first) = (group * blocks + block, block * OUTPUTS);
            let (quads, behind) = self.quads[index * quads..].split_at(quads);
            Block {
                output: group * per_group + first,
                count: OUTPUTS.min(per_group - first),
                quads,
                next: &behind[..quads.len().min(behind.len())],
                finish: &self.finish[index],
            }
        })
    }
}

/// Some outputs of one group.
pub(crate) struct Block<'a> {
    /// The first of them.
    pub(crate) output: usize,
    /// How many they are.
    pub(crate) count: usize,
    pub(crate) quads: &'a [Quad],
    /// The weights of the block behind it.
    pub(crate) next: &'a [Quad],
    pub(crate) finish: &'a Finish,
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
                "output {output}: a weight exceeds {LIMIT} in magnitude, so 16-bit sums of products would overflow; \
                 quantise weights to 7 bits"
            ),
        }
    }
}

impl std::error::Error for WeightsError {}
