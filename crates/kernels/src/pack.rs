//! Weights in 7 bits, checked and laid out once.

/// Weights of a product: `outputs x depth` integers from -64 to 64, with one scale and one bias per output. The inputs
/// fall into `groups` equal parts of `depth` channels, and each group's outputs read only their own part.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    outputs: usize,
    groups: usize,
    /// Channels of one group.
    depth: usize,
    /// `[outputs, depth / 4]`, four neighbouring channels together.
    quads: Vec<[i8; 4]>,
    /// -128 times each output's sum of weights: undoes the zero point of kernels that take activations as u8.
    #[cfg(target_arch = "x86_64")]
    corrections: Vec<i32>,
    scales: Vec<f32>,
    biases: Vec<f32>,
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
        Ok(Self {
            outputs,
            groups,
            depth,
            quads: integers.as_chunks().0.to_vec(),
            #[cfg(target_arch = "x86_64")]
            corrections: integers
                .chunks_exact(depth)
                .map(|row| -128 * row.iter().map(|&weight| i32::from(weight)).sum::<i32>())
                .collect(),
            scales,
            biases,
        })
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

    /// One output's weights.
    pub(crate) fn row(&self, output: usize) -> &[[i8; 4]] {
        let quads = self.depth / 4;
        &self.quads[output * quads..(output + 1) * quads]
    }

    /// One output's part of the sum that undoes the zero point.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn correction(&self, output: usize) -> i32 {
        self.corrections[output]
    }

    /// One output's scale and bias.
    pub(crate) fn scale_and_bias(&self, output: usize) -> (f32, f32) {
        (self.scales[output], self.biases[output])
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
