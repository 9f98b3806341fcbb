//! SqueezeBERT in candle, f32, written by hand: candle has no ONNX runtime of note and no grouped int8 products.
//! Tokens come before channels; a grouped 1x1 convolution is a batch of matrix products, which candle does faster than
//! its convolution.

use std::path::Path;

use candle_core::safetensors::load;
use candle_core::{D, DType, Device, Result as Outcome, Tensor};
use candle_nn::ops::softmax_last_dim;
use candle_nn::{LayerNorm, Module, VarBuilder};
use serde::Deserialize;

use super::{Batch, Engine, text};

pub(crate) struct Candle {
    embedding: Embedding,
    layers: Vec<Layer>,
}

/// What `model.json` beside the weights says.
#[derive(Deserialize)]
struct Card {
    shape: Shape,
}

#[derive(Deserialize)]
struct Shape {
    vocabulary: usize,
    groups: usize,
    layers: usize,
    hidden: usize,
    heads: usize,
    feed_forward: usize,
    max_tokens: usize,
}

struct Embedding {
    words: Tensor,
    positions: Tensor,
    norm: LayerNorm,
}

struct Layer {
    heads: usize,
    query: Pointwise,
    key: Pointwise,
    value: Pointwise,
    attention_output: Pointwise,
    attention_norm: LayerNorm,
    expand: Pointwise,
    contract: Pointwise,
    output_norm: LayerNorm,
}

/// A 1x1 convolution in groups: `[groups, inputs of a group, outputs of a group]`.
struct Pointwise {
    weight: Tensor,
    bias: Tensor,
}

const EPSILON: f64 = 1e-12;

impl Candle {
    pub(crate) fn load(weights: &Path) -> Result<Self, String> {
        let card = std::fs::read(weights.with_file_name("model.json")).map_err(text)?;
        let Card { shape } = serde_json::from_slice(&card).map_err(text)?;
        let tensors = load(weights, &Device::Cpu).map_err(text)?;
        let weights = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        Self::build(&shape, &weights).map_err(text)
    }

    fn build(shape: &Shape, weights: &VarBuilder) -> Outcome<Self> {
        let embedding = Embedding::build(shape, &weights.pp("embeddings"))?;
        let layers = weights.pp("encoder.layers");
        let layers = (0..shape.layers).map(|index| Layer::build(shape, &layers.pp(index)));
        Ok(Self { embedding, layers: layers.collect::<Outcome<_>>()? })
    }

    fn forward(&self, batch: &Batch) -> Outcome<Tensor> {
        let ids: Vec<u32> = batch.padded.iter().map(|&id| id as u32).collect();
        let blocked = match &batch.mask {
            None => None,
            Some(mask) => {
                let blocked: Vec<f32> =
                    mask.iter().map(|&one| if one == 1 { 0.0 } else { f32::MIN }).collect();
                let [sequences, longest] = batch.shape();
                Some(Tensor::from_vec(blocked, (sequences, 1, 1, longest), &Device::Cpu)?)
            }
        };
        let mut x = self.embedding.forward(&ids, batch.shape())?;
        for layer in &self.layers {
            x = layer.forward(&x, batch.shape(), blocked.as_ref())?;
        }
        Ok(x)
    }
}

impl Engine for Candle {
    type Output = Tensor;

    fn kernel(&self) -> String {
        "candle".to_owned()
    }

    fn run(&mut self, batch: &Batch) -> Result<Tensor, String> {
        self.forward(batch).map_err(text)
    }

    fn hidden(&self, batch: &Batch, output: &Tensor) -> Result<Vec<f32>, String> {
        let values: Vec<f32> = output.flatten_all().and_then(|flat| flat.to_vec1()).map_err(text)?;
        Ok(batch.unpad(&values))
    }
}

impl Embedding {
    fn build(shape: &Shape, weights: &VarBuilder) -> Outcome<Self> {
        let positions = weights.get((shape.max_tokens, shape.hidden), "position_embeddings.weight")?;
        let segment = weights.get((2, shape.hidden), "token_type_embeddings.weight")?.get(0)?;
        Ok(Self {
            words: weights.get((shape.vocabulary, shape.hidden), "word_embeddings.weight")?,
            positions: positions.broadcast_add(&segment)?,
            norm: norm(shape, &weights.pp("LayerNorm"))?,
        })
    }

    /// `[sequences x longest, channels]`.
    fn forward(&self, ids: &[u32], [sequences, longest]: [usize; 2]) -> Outcome<Tensor> {
        let words = self.words.index_select(&Tensor::new(ids, &Device::Cpu)?, 0)?;
        let channels = words.dim(1)?;
        let positions = self.positions.narrow(0, 0, longest)?;
        let sum = words.reshape((sequences, longest, channels))?.broadcast_add(&positions)?;
        self.norm.forward(&sum.reshape((sequences * longest, channels))?)
    }
}

impl Layer {
    fn build(shape: &Shape, weights: &VarBuilder) -> Outcome<Self> {
        let (hidden, wide, groups) = (shape.hidden, shape.feed_forward, shape.groups);
        let grouped = |name, inputs, outputs| Pointwise::build(inputs, outputs, groups, &weights.pp(name));
        Ok(Self {
            heads: shape.heads,
            query: grouped("attention.query", hidden, hidden)?,
            key: grouped("attention.key", hidden, hidden)?,
            value: grouped("attention.value", hidden, hidden)?,
            attention_output: Pointwise::build(hidden, hidden, 1, &weights.pp("post_attention.conv1d"))?,
            attention_norm: norm(shape, &weights.pp("post_attention.layernorm"))?,
            expand: grouped("intermediate.conv1d", hidden, wide)?,
            contract: grouped("output.conv1d", wide, hidden)?,
            output_norm: norm(shape, &weights.pp("output.layernorm"))?,
        })
    }

    fn forward(&self, x: &Tensor, shape: [usize; 2], blocked: Option<&Tensor>) -> Outcome<Tensor> {
        let context = self.attend(x, shape, blocked)?;
        let x = self.attention_norm.forward(&(x + self.attention_output.forward(&context)?)?)?;
        let wide = self.expand.forward(&x)?.gelu_erf()?;
        self.output_norm.forward(&(&x + self.contract.forward(&wide)?)?)
    }

    fn attend(&self, x: &Tensor, shape: [usize; 2], blocked: Option<&Tensor>) -> Outcome<Tensor> {
        let [query, key, value] =
            [&self.query, &self.key, &self.value].map(|part| self.split(&part.forward(x)?, shape));
        let (query, key, value) = (query?, key?, value?);
        let scale = (query.dim(D::Minus1)? as f64).powf(-0.5);
        let mut scores = (query.matmul(&key.t()?)? * scale)?;
        if let Some(blocked) = blocked {
            scores = scores.broadcast_add(blocked)?;
        }
        softmax_last_dim(&scores)?.matmul(&value)?.transpose(1, 2)?.reshape(x.shape())
    }

    /// `[sequences, heads, longest, channels of a head]`.
    fn split(&self, x: &Tensor, [sequences, longest]: [usize; 2]) -> Outcome<Tensor> {
        x.reshape((sequences, longest, self.heads, ()))?.transpose(1, 2)?.contiguous()
    }
}

impl Pointwise {
    fn build(inputs: usize, outputs: usize, groups: usize, weights: &VarBuilder) -> Outcome<Self> {
        let weight = weights.get((outputs, inputs / groups, 1), "weight")?;
        let weight = weight.reshape((groups, outputs / groups, inputs / groups))?;
        Ok(Self { weight: weight.transpose(1, 2)?.contiguous()?, bias: weights.get(outputs, "bias")? })
    }

    fn forward(&self, x: &Tensor) -> Outcome<Tensor> {
        let (groups, depth, _) = self.weight.dims3()?;
        let rows = x.dim(0)?;
        let products = if groups == 1 {
            x.matmul(&self.weight.get(0)?)?
        } else {
            let grouped = x.reshape((rows, groups, depth))?.transpose(0, 1)?.contiguous()?;
            grouped.matmul(&self.weight)?.transpose(0, 1)?.reshape((rows, ()))?
        };
        products.broadcast_add(&self.bias)
    }
}

fn norm(shape: &Shape, weights: &VarBuilder) -> Outcome<LayerNorm> {
    let part = |name| weights.get(shape.hidden, name);
    Ok(LayerNorm::new(part("weight")?, part("bias")?, EPSILON))
}
