//! Stock tract: one plan with symbolic batch and length for all shapes, and one more that takes a mask.

use std::path::{Path, PathBuf};

use tract_onnx::prelude::*;

use super::{Batch, Engine, masked, text};

pub(crate) struct Tract {
    plain: TypedSimpleState,
    masked: Option<TypedSimpleState>,
    masked_file: PathBuf,
}

impl Tract {
    pub(crate) fn load(model: &Path) -> Result<Self, String> {
        Ok(Self { plain: plan(model)?, masked: None, masked_file: masked(model) })
    }
}

fn plan(file: &Path) -> Result<TypedSimpleState, String> {
    let model = tract_onnx::onnx().model_for_path(file).and_then(InferenceModelExt::into_optimized);
    let plan = model.and_then(IntoRunnable::into_runnable).map_err(text)?;
    plan.spawn().map_err(text)
}

impl Engine for Tract {
    type Output = TValue;

    fn kernel(&self) -> String {
        "tract".to_owned()
    }

    fn run(&mut self, batch: &Batch) -> Result<TValue, String> {
        let tensor = |values: &[i64]| {
            Tensor::from_shape(&batch.shape(), values).map(Tensor::into_tvalue).map_err(text)
        };
        let ids = tensor(&batch.padded)?;
        let mut outputs = match &batch.mask {
            None => self.plain.run(tvec!(ids)),
            Some(mask) => {
                if self.masked.is_none() {
                    self.masked = Some(plan(&self.masked_file)?);
                }
                let state = self.masked.as_mut().ok_or("no plan with a mask")?;
                state.run(tvec!(ids, tensor(mask)?))
            }
        }
        .map_err(text)?;
        Ok(outputs.remove(0))
    }

    fn hidden(&self, batch: &Batch, output: &TValue) -> Result<Vec<f32>, String> {
        let view = output.as_plain_ram().ok_or("the output is not in memory")?;
        Ok(batch.unpad(view.as_slice().map_err(text)?))
    }
}
