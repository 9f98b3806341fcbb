//! rten. `RTEN_NUM_THREADS` says on how many threads.

use std::path::{Path, PathBuf};

use rten::{Model, ModelOptions, Value};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, Tensor};

use super::{Batch, Engine, masked, text};

pub(crate) struct Rten {
    plain: Model,
    masked: Option<Model>,
    masked_file: PathBuf,
}

impl Rten {
    pub(crate) fn load(model: &Path) -> Result<Self, String> {
        Ok(Self { plain: open(model)?, masked: None, masked_file: masked(model) })
    }
}

fn open(file: &Path) -> Result<Model, String> {
    ModelOptions::with_all_ops().prepack_weights(true).load_file(file).map_err(text)
}

impl Engine for Rten {
    type Output = Value;

    fn kernel(&self) -> String {
        "rten".to_owned()
    }

    fn run(&mut self, batch: &Batch) -> Result<Value, String> {
        // rten counts in i32.
        let tensor = |values: &[i64]| {
            let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
            NdTensor::from_data(batch.shape(), values)
        };
        let (model, values) = match &batch.mask {
            None => (&self.plain, vec![tensor(&batch.padded)]),
            Some(mask) => {
                if self.masked.is_none() {
                    self.masked = Some(open(&self.masked_file)?);
                }
                let model = self.masked.as_ref().ok_or("no model with a mask")?;
                (model, vec![tensor(&batch.padded), tensor(mask)])
            }
        };
        let inputs = model.input_ids().iter().copied().zip(values.into_iter().map(Into::into)).collect();
        model.run(inputs, model.output_ids(), None).map_err(text)?.pop().ok_or_else(|| "no output".to_owned())
    }

    fn hidden(&self, batch: &Batch, output: &Value) -> Result<Vec<f32>, String> {
        let hidden: Tensor<f32> = output.clone().into_tensor().ok_or("the output is not f32")?;
        Ok(batch.unpad(&hidden.to_vec()))
    }
}
