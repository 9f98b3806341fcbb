use intentd_core::{Outcome, ParseOptions};
use intentd_engine::model::{Model, Operators, Sequence};
use intentd_kernels::Kernel;
use serde_json::json;

use crate::{bundle, engine, said, vectors};

#[test]
fn answers_are_those_of_the_python_export() {
    let mut worker = engine().worker().unwrap();
    for vector in vectors() {
        let text = vector["text"].as_str().unwrap();
        let mut utterance = said(text);
        utterance.options = ParseOptions { top_k: 32, ..ParseOptions::default() };
        let understanding = worker.parse(&[&utterance]).remove(0).unwrap();
        assert_eq!(
            understanding.effort.tokens as usize,
            vector["input_ids"].as_array().unwrap().len(),
            "{text}"
        );
        let outcome = match understanding.outcome {
            Outcome::Recognized => "RECOGNIZED",
            Outcome::Uncertain => "UNCERTAIN",
            Outcome::NotRecognized => "NOT_RECOGNIZED",
        };
        assert_eq!(outcome, vector["outcome"], "{text}");
        let ranked: Vec<_> = understanding.intent.iter().chain(&understanding.alternatives).collect();
        assert_eq!(ranked[0].name, vector["intent"].as_str().unwrap(), "{text}");
        for intent in ranked {
            let index = engine().labels().intents.iter().position(|name| *name == intent.name).unwrap();
            // Out of scope stands last, so the index among the intents is that among the scores.
            let expected = vector["intent_scores"][index].as_f64().unwrap() as f32;
            assert!((intent.confidence - expected).abs() <= 0.03, "{text}: {intent:?}, not {expected}");
        }
        let slots: Vec<_> = understanding
            .slots
            .iter()
            .map(|slot| json!({"name": slot.name, "start": slot.chars.start, "end": slot.chars.end}))
            .collect();
        assert_eq!(json!(slots), vector["slots"], "{text}");
    }
}

#[test]
fn encoder_and_heads_are_one_node_of_ours_each() {
    let operators = engine().operators();
    let ours: Vec<_> = operators.iter().filter(|operator| operator.kernel.is_some()).collect();
    let graphs: Vec<_> = ours.iter().map(|operator| operator.graph).collect();
    assert_eq!(graphs, ["encoder", "heads/intent", "heads/slots"]);
    assert!(ours.iter().all(|o| o.precision == "int8" && o.kernel == Some(engine().kernel())));
    let others: Vec<_> = operators.iter().filter(|o| o.kernel.is_none() && o.operator != "Source").collect();
    assert!(others.is_empty(), "left to tract: {others:?}");
}

fn load(file: &str, graph: &'static str, operators: Operators) -> Model {
    Model::load(graph, &std::fs::read(bundle().join(file)).unwrap(), operators).unwrap()
}

fn argmax(values: impl Iterator<Item = f32>) -> Option<usize> {
    values.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).map(|(index, _)| index)
}

/// Cosine of each token's hidden state.
fn cosines(a: &[f32], b: &[f32], channels: usize) -> Vec<f32> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let rows = a.chunks_exact(channels).zip(b.chunks_exact(channels));
    rows.map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).collect()
}

/// The oracle: tract's own operators on the same files. Few lines, since its int8 products are slow on AVX2.
#[test]
fn our_operator_agrees_with_stock_tract() {
    let plugged = Operators::Plugged(Kernel::best());
    let graphs = [plugged, Operators::Stock].map(|operators| {
        let encoder = load("encoder.onnx", "encoder", operators).start().unwrap();
        let slots = load("heads/slots.onnx", "heads/slots", operators).start().unwrap();
        let intent = load("heads/intent.onnx", "heads/intent", operators).start().unwrap();
        (encoder, slots, intent)
    });
    let [mut ours, mut stock] = graphs;
    let (mut sum, mut count) = (0.0, 0);
    for vector in vectors().iter().take(12) {
        let ids: Vec<u32> =
            vector["input_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let hidden = (
            ours.0.encode(&[Sequence::plain(&ids)]).unwrap(),
            stock.0.encode(&[Sequence::plain(&ids)]).unwrap(),
        );
        for cosine in cosines(hidden.0.of(0), hidden.1.of(0), hidden.0.width()) {
            sum += cosine;
            count += 1;
        }
        for (ours, stock) in [(&mut ours.2, &mut stock.2), (&mut ours.1, &mut stock.1)] {
            let scores = (ours.score(&hidden.0).unwrap(), stock.score(&hidden.1).unwrap());
            let width = scores.0.width();
            assert_eq!(scores.0.of(0).len(), scores.1.of(0).len());
            let rows = scores.0.of(0).chunks_exact(width).zip(scores.1.of(0).chunks_exact(width));
            for (row, (ours, stock)) in rows.enumerate() {
                let best = |scores: &[f32]| argmax(scores.iter().copied());
                assert_eq!(best(ours), best(stock), "row {row} of {vector}");
            }
        }
    }
    let mean = sum / count as f32;
    assert!(mean >= 0.999, "mean cosine of hidden states is {mean}");
}
