//! A made-up bundle with the tasks that no committed one has, out of the parts of `home-en-tiny`. What it must answer
//! is known without the engine's own code: its heads are heads of that bundle under another name.
//!
//! - The encoder also reads token types. Type 0 adds nothing, so text without capitals is read as in `home-en-tiny`.
//! - `sentiment` is the intent head, `entities` the slots head.
//! - `qa` scores every token as start and as end by the tag `B-house_place`: the answer to any question is a room.
//! - An embedding needs no head.

use std::fs;
use std::path::{Path, PathBuf};

use intentd_engine::model::{Model, Operators, Sequence};
use prost::Message as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, attribute_proto};
use tract_onnx::pb::{tensor_proto, tensor_shape_proto, type_proto};

/// Token types: four classes of letter case, and the same in a passage.
const TYPES: usize = 8;
const PASSAGE: u32 = 4;

/// By how much a room must beat "no answer".
pub(crate) const THRESHOLD: f32 = 4.0;

const BEGIN: u32 = 2;
const END: u32 = 3;

fn original(file: &str) -> PathBuf {
    // This file serves the tests of two packages, one of them two folders further up.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.ancestors().find(|folder| folder.join("models").is_dir()).unwrap();
    root.join("models/home-en-tiny").join(file)
}

/// The vectors of the original.
pub(crate) fn lines() -> Vec<Value> {
    let text = fs::read_to_string(original("selftest.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Writes a bundle of this name with these tasks.
pub(crate) fn bundle(name: &str, tasks: &[&str]) -> TempDir {
    let folder = TempDir::new().unwrap();
    let write = |file: &str, bytes: &[u8]| fs::write(folder.path().join(file), bytes).unwrap();
    fs::create_dir(folder.path().join("heads")).unwrap();
    write("encoder.onnx", &typed_encoder());
    let read = |file: &str| fs::read(original(file)).unwrap();
    write("tokenizer.json", &read("tokenizer.json"));
    let (intent, slots) = (read("heads/intent.onnx"), read("heads/slots.onnx"));
    let labels: Value = serde_json::from_slice(&read("labels.json")).unwrap();
    let place = labels["tags"].as_array().unwrap().iter().position(|tag| tag == "B-house_place").unwrap();
    let qa = cut(&slots, &[place, place]);
    let heads: [(&str, &[u8]); 5] =
        [("intent", &intent), ("slots", &slots), ("sentiment", &intent), ("entities", &slots), ("qa", &qa)];
    for (task, bytes) in heads.iter().filter(|(task, _)| tasks.contains(task)) {
        write(&format!("heads/{task}.onnx"), bytes);
    }
    write("labels.json", renamed_labels(labels).to_string().as_bytes());
    let calibration: Value = serde_json::from_slice(&read("calibration.json")).unwrap();
    write("calibration.json", renamed_calibration(calibration).to_string().as_bytes());
    let texts = lines().into_iter().filter(is_without_capitals);
    let texts = texts.filter(|_| tasks != ["qa"]).map(|line| renamed_line(line, folder.path()).to_string());
    let questions = tasks.contains(&"qa").then(|| question(folder.path()).to_string());
    let vectors: Vec<String> = texts.chain(questions).collect();
    write("selftest.jsonl", vectors.join("\n").as_bytes());
    write("manifest.toml", manifest(name, tasks, folder.path()).as_bytes());
    folder
}

/// With capitals a line has other token types, and other answers than the original.
fn is_without_capitals(line: &Value) -> bool {
    !line["text"].as_str().unwrap().contains(char::is_uppercase)
}

fn renamed_labels(mut labels: Value) -> Value {
    labels["sentiment"] = labels["intents"].clone();
    labels["entities"] = json!({"tags": labels["tags"], "transitions": labels["transitions"]});
    labels["token_types"] = json!({"cases": true, "passage_offset": PASSAGE});
    labels
}

fn renamed_calibration(mut calibration: Value) -> Value {
    calibration["sentiment"] = json!({"temperature": calibration["intent"]["temperature"]});
    calibration["entities"] =
        json!({"temperature": calibration["slots"]["temperature"], "outside_bias": 0.0});
    calibration["qa"] = json!({"temperature": 1.0, "threshold": THRESHOLD});
    calibration
}

/// A vector of the original with the same answers under their new names.
fn renamed_line(mut line: Value, bundle: &Path) -> Value {
    let ids = ids(&line);
    line["segment_ids"] = json!(vec![0; ids.len()]);
    line["sentiment_scores"] = line["intent_scores"].clone();
    let labels: Value = serde_json::from_slice(&fs::read(original("labels.json")).unwrap()).unwrap();
    let scores = line["intent_scores"].as_array().unwrap().iter().map(|score| score.as_f64().unwrap());
    let best = scores.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0;
    line["sentiment"] = labels["intents"][best].clone();
    line["entities"] = line["slots"].clone();
    line["embedding"] = json!(embedding(bundle, &ids, &vec![0; ids.len()]));
    line
}

pub(crate) fn ids(line: &Value) -> Vec<u32> {
    line["input_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The normalised mean of the hidden states, by stock tract.
pub(crate) fn embedding(bundle: &Path, ids: &[u32], types: &[u32]) -> Vec<f32> {
    let mut encoder = stock(bundle, "encoder.onnx").start().unwrap();
    let hidden = encoder.encode(&[Sequence { ids, types }]).unwrap();
    let mut mean = vec![0.0; hidden.width()];
    for row in hidden.of(0).chunks_exact(hidden.width()) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let length = mean.iter().map(|value| value * value).sum::<f32>().sqrt();
    mean.into_iter().map(|value| value / length).collect()
}

/// "start the robot vacuum" about "dim the bedroom lights to 30 percent": the bedroom.
fn question(bundle: &Path) -> Value {
    let find = |text: &str| lines().into_iter().find(|line| line["text"] == text).unwrap();
    let (asked, passage) = (find("start the robot vacuum"), find("dim the bedroom lights to 30 percent"));
    let (asked_ids, passage_ids) = (ids(&asked), ids(&passage));
    let window = [asked_ids.as_slice(), &passage_ids[1..]].concat();
    let types: Vec<u32> =
        (0..window.len()).map(|at| if at < asked_ids.len() { 0 } else { PASSAGE }).collect();
    assert!(window[0] == BEGIN && window[window.len() - 1] == END);
    let mut encoder = stock(bundle, "encoder.onnx").start().unwrap();
    let hidden = encoder.encode(&[Sequence { ids: &window, types: &types }]).unwrap();
    let scores = stock(bundle, "heads/qa.onnx").start().unwrap().score(&hidden).unwrap();
    let starts: Vec<f32> = scores.of(0).chunks_exact(2).map(|token| token[0]).collect();
    let best = starts[asked_ids.len()..].iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let score = 1.0 / (1.0 + (-(2.0 * (best - starts[0]) - THRESHOLD)).exp());
    json!({
        "question": asked["text"], "passages": [passage["text"]],
        "windows": [{"input_ids": window, "segment_ids": types}],
        "answerable": true, "score": score, "passage": 0, "start": 8, "end": 15,
    })
}

fn stock(bundle: &Path, file: &str) -> Model {
    let bytes = fs::read(bundle.join(file)).unwrap();
    Model::load("made-up", &bytes, Operators::Stock).unwrap()
}

fn manifest(name: &str, tasks: &[&str], folder: &Path) -> String {
    let quoted: Vec<String> = tasks.iter().map(|task| format!("\"{task}\"")).collect();
    let mut manifest = format!(
        "schema = 1\nname = \"{name}\"\nversion = \"0.0.1\"\nlanguages = [\"en\"]\nlicence = \"Apache-2.0\"\n\
         tasks = [{}]\nminimum_intentd = \"0.1.0\"\nsize_class = \"tiny\"\nmax_tokens = 128\n",
        quoted.join(", ")
    );
    for file in ["encoder.onnx", "tokenizer.json", "labels.json", "calibration.json", "selftest.jsonl"]
        .into_iter()
        .map(str::to_owned)
        .chain(tasks.iter().map(|task| format!("heads/{task}.onnx")))
    {
        let Ok(bytes) = fs::read(folder.join(&file)) else { continue };
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let size = bytes.len();
        manifest += &format!("[[files]]\npath = \"{file}\"\nsha256 = \"{digest}\"\nbytes = {size}\n");
    }
    manifest
}

/// The original's encoder with one more input: the rows of its types are added before the first norm.
fn typed_encoder() -> Vec<u8> {
    let mut model = decode(&fs::read(original("encoder.onnx")).unwrap());
    let graph = model.graph.as_mut().unwrap();
    let mut types = graph.input[0].clone();
    types.name = "segment_ids".to_owned();
    graph.input.push(types);
    let norm = graph.node.iter().position(|node| node.op_type == "LayerNormalization").unwrap();
    let (sum, weights) = (graph.node[norm].input[0].clone(), graph.node[norm].input[1].clone());
    let channels = graph.initializer.iter().find(|tensor| tensor.name == weights).unwrap().dims[0] as usize;
    // Small against a row of the embedding, and different in each.
    let row = |kind: usize| {
        (0..channels).map(move |channel| ((kind * (channel + 3) * 37 % 101) as f32 - 50.0) / 500.0)
    };
    let rows = (0..TYPES).flat_map(|kind| row(kind).map(move |value| if kind == 0 { 0.0 } else { value }));
    graph.initializer.push(TensorProto {
        name: "made-up/types".to_owned(),
        dims: vec![TYPES as i64, channels as i64],
        data_type: tensor_proto::DataType::Float as i32,
        raw_data: rows.flat_map(f32::to_le_bytes).collect(),
        ..TensorProto::default()
    });
    let node = |kind: &str, input: [&str; 2], output: &str| NodeProto {
        name: output.to_owned(),
        op_type: kind.to_owned(),
        input: input.map(str::to_owned).to_vec(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    };
    let mut gather = node("Gather", ["made-up/types", "segment_ids"], "made-up/rows");
    gather.attribute.push(AttributeProto {
        name: "axis".to_owned(),
        r#type: attribute_proto::AttributeType::Int as i32,
        i: 0,
        ..AttributeProto::default()
    });
    graph.node[norm].input[0] = "made-up/sum".to_owned();
    graph.node.insert(norm, node("Add", [&sum, "made-up/rows"], "made-up/sum"));
    graph.node.insert(norm, gather);
    model.encode_to_vec()
}

/// A head with only these of its outputs.
fn cut(head: &[u8], kept: &[usize]) -> Vec<u8> {
    let mut model = decode(head);
    let graph = model.graph.as_mut().unwrap();
    let outputs = outputs(graph);
    for tensor in &mut graph.initializer {
        let Some(axis) = tensor.dims.iter().position(|&size| size == outputs as i64) else { continue };
        // Whatever stands before that axis has size 1, so the values of an output lie together.
        assert!(tensor.dims[..axis].iter().all(|&size| size == 1) && !tensor.raw_data.is_empty());
        tensor.dims[axis] = kept.len() as i64;
        let each = tensor.raw_data.len() / outputs;
        let values = kept.iter().flat_map(|&output| tensor.raw_data[output * each..][..each].to_vec());
        tensor.raw_data = values.collect();
    }
    *size_of_output(graph) = tensor_shape_proto::dimension::Value::DimValue(kept.len() as i64);
    model.encode_to_vec()
}

fn outputs(graph: &mut GraphProto) -> usize {
    match size_of_output(graph) {
        tensor_shape_proto::dimension::Value::DimValue(size) => *size as usize,
        other => panic!("{other:?}"),
    }
}

/// The size of the output's channels, `[1, channels, tokens]`.
fn size_of_output(graph: &mut GraphProto) -> &mut tensor_shape_proto::dimension::Value {
    let kind = graph.output[0].r#type.as_mut().unwrap().value.as_mut().unwrap();
    let type_proto::Value::TensorType(tensor) = kind;
    tensor.shape.as_mut().unwrap().dim[1].value.as_mut().unwrap()
}

fn decode(bytes: &[u8]) -> ModelProto {
    ModelProto::decode(bytes).unwrap()
}
