//! Our encoder, and stock tract on the same file.

use std::path::Path;

use intentd_engine::model::{Model, Operators, Rows, Running, Sequence};
use intentd_kernels::Kernel;

use super::{Batch, Engine, text};

pub(crate) struct Intentd {
    kernel: &'static str,
    running: Running,
}

impl Intentd {
    pub(crate) fn load(model: &Path) -> Result<Self, String> {
        let kernel = Kernel::best();
        Self::with(model, Operators::Plugged(kernel), kernel.name())
    }

    /// tract's own operators.
    pub(crate) fn load_stock(model: &Path) -> Result<Self, String> {
        Self::with(model, Operators::Stock, "tract")
    }

    fn with(model: &Path, operators: Operators, kernel: &'static str) -> Result<Self, String> {
        let bytes = std::fs::read(model).map_err(text)?;
        let running = Model::load("encoder", &bytes, operators)?.start().map_err(text)?;
        Ok(Self { kernel, running })
    }
}

impl Engine for Intentd {
    type Output = Rows;

    fn kernel(&self) -> String {
        self.kernel.to_owned()
    }

    fn run(&mut self, batch: &Batch) -> Result<Rows, String> {
        let sequences: Vec<Sequence<'_>> = batch.sequences.iter().map(|ids| Sequence::plain(ids)).collect();
        self.running.encode(&sequences)
    }

    fn hidden(&self, _batch: &Batch, output: &Rows) -> Result<Vec<f32>, String> {
        Ok((0..output.sequences()).flat_map(|sequence| output.of(sequence)).copied().collect())
    }
}
