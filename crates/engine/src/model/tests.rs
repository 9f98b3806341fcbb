//! Graphs that are not recognised as a whole.

use tract_onnx::pb::NodeProto;

use super::*;

const SEQUENCES: [&[u32]; 3] = [&[2, 1001, 3867, 17, 4, 99, 3], &[2, 3], &[2, 50, 60, 70, 3]];

fn proto(file: &str) -> ModelProto {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/home-en").join(file);
    tract_onnx::onnx().proto_model_for_path(path).unwrap()
}

/// The same graph with a node at its end that does nothing.
fn with_one_more_node(mut model: ModelProto) -> ModelProto {
    let graph = model.graph.as_mut().unwrap();
    let output = graph.output[0].name.clone();
    graph.output[0].name = "renamed".to_owned();
    graph.node.push(NodeProto {
        name: "last".to_owned(),
        op_type: "Identity".to_owned(),
        input: vec![output],
        output: vec!["renamed".to_owned()],
        ..NodeProto::default()
    });
    model
}

#[track_caller]
fn alike(a: &Rows, b: &Rows) {
    assert_eq!((a.width(), a.sequences()), (b.width(), b.sequences()));
    for sequence in 0..a.sequences() {
        let (a, b) = (a.of(sequence), b.of(sequence));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        assert!(a.len() == b.len() && cosine > 0.999, "sequence {sequence}: cosine {cosine}");
    }
}

#[test]
fn a_graph_with_one_more_node_runs_node_by_node_and_answers_alike() {
    let operators = Operators::Plugged(Kernel::best());
    let load = |graph, file: &str| {
        let whole = Model::build(graph, proto(file), operators).unwrap();
        let parts = Model::build(graph, with_one_more_node(proto(file)), operators).unwrap();
        assert_eq!((whole.form, parts.form), (Form::Batch, Form::Single));
        let ours = parts.operators().iter().filter(|operator| operator.kernel.is_some()).count();
        (whole.start().unwrap(), parts.start().unwrap(), ours)
    };
    let (mut whole, mut parts, products) = load("encoder", "encoder.onnx");
    // Per layer: query, key and value together, the attention's output, both of the feed-forward part.
    assert_eq!(products, 6 * 4);
    let sequences = SEQUENCES.map(Sequence::plain);
    let hidden = whole.encode(&sequences).unwrap();
    alike(&hidden, &parts.encode(&sequences).unwrap());
    for (graph, file) in [("heads/intent", "heads/intent.onnx"), ("heads/slots", "heads/slots.onnx")] {
        let (mut whole, mut parts, products) = load(graph, file);
        assert_eq!(products, 1);
        alike(&whole.score(&hidden).unwrap(), &parts.score(&hidden).unwrap());
    }
}

/// The first constant of this type and this many values is changed: the graph computes something else.
#[test]
fn a_changed_constant_is_not_taken_for_ours() {
    let recognised = |change: &dyn Fn(&mut GraphProto)| {
        let mut model = proto("encoder.onnx");
        change(model.graph.as_mut().unwrap());
        recognise_encoder(model.graph.as_ref().unwrap()).err()
    };
    assert_eq!(recognised(&|_| ()), None);
    for operator in ["Softmax", "Erf", "LayerNormalization", "Range", "ConvInteger", "Gather", "MatMul"] {
        let renamed = recognised(&|graph| {
            let node = graph.node.iter_mut().rev().find(|node| node.op_type == operator).unwrap();
            node.op_type = "Identity".to_owned();
        });
        assert!(renamed.is_some(), "{operator} was not missed");
    }
    for (attribute, value) in [("axis", 1), ("group", 2)] {
        let changed = recognised(&|graph| {
            let attributes = graph.node.iter_mut().rev().flat_map(|node| &mut node.attribute);
            attributes.into_iter().find(|a| a.name == attribute).unwrap().i = value;
        });
        assert!(changed.is_some(), "{attribute} was not looked at");
    }
    let swapped = recognised(&|graph| {
        let node = graph.node.iter_mut().rev().find(|node| node.op_type == "Transpose").unwrap();
        node.attribute[0].ints.reverse();
    });
    assert!(swapped.is_some(), "the permutation was not looked at");
}
