use intentd_core::{Effort, Understanding, Utterance};
use intentd_engine::model::{Model, Operators, Sequence};
use intentd_kernels::Kernel;

use crate::{bundle, engine, said};

const TEXTS: [&str; 7] = [
    "turn on the kitchen lights",
    "x",
    "wake me up at half past six tomorrow and every day after that, please, without fail",
    "日本語 lights 🙂",
    "set the temperature to 21.5 degrees",
    "what's on my to-do list",
    "turn on the kitchen lights",
];

/// All but the times that it took.
fn answers(utterances: &[Utterance]) -> Vec<Understanding> {
    let mut worker = engine().worker().unwrap();
    let batch: Vec<&Utterance> = utterances.iter().collect();
    let results = worker.parse(&batch).into_iter().map(Result::unwrap);
    results.map(|understanding| Understanding { effort: Effort::default(), ..understanding }).collect()
}

#[test]
fn neither_batch_nor_order_changes_an_answer() {
    let utterances = TEXTS.map(said);
    let together = answers(&utterances);
    let alone: Vec<_> = utterances.iter().flat_map(|u| answers(std::slice::from_ref(u))).collect();
    assert_eq!(together, alone);
    let mut reversed: Vec<_> = utterances.to_vec();
    reversed.reverse();
    let mut backwards = answers(&reversed);
    backwards.reverse();
    assert_eq!(together, backwards);
    assert_eq!(together[0], together[6]);
}

#[test]
fn threads_give_the_same_answers() {
    let utterances = TEXTS.map(said);
    let expected = answers(&utterances);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| answers(&utterances))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), expected);
        }
    });
}

/// To the bit: integer sums are exact, and the f32 steps around them have one order.
#[test]
fn kernels_give_the_same_hidden_states() {
    let bytes = std::fs::read(bundle().join("encoder.onnx")).unwrap();
    let hidden: Vec<Vec<f32>> = Kernel::all()
        .into_iter()
        .map(|kernel| {
            let model = Model::load("encoder", &bytes, Operators::Plugged(kernel)).unwrap();
            let hidden =
                model.start().unwrap().encode(&[Sequence::plain(&[2, 1001, 3867, 17, 4, 99, 3])]).unwrap();
            hidden.of(0).to_vec()
        })
        .collect();
    assert!(hidden.iter().all(|values| *values == hidden[0]));
}

/// A batch is ragged: no sequence sees another, whatever their lengths and order.
#[test]
fn a_batch_gives_the_bits_of_each_sequence_alone() {
    let bytes = std::fs::read(bundle().join("encoder.onnx")).unwrap();
    let mut running =
        Model::load("encoder", &bytes, Operators::Plugged(Kernel::best())).unwrap().start().unwrap();
    let sequences: Vec<Vec<u32>> = [5, 2, 128, 17, 3, 64, 90]
        .iter()
        .map(|&n| (0..n).map(|i| 100 + (i * 37 + n) % 5000).collect())
        .collect();
    let batch: Vec<Sequence<'_>> = sequences.iter().map(|ids| Sequence::plain(ids)).collect();
    let together = running.encode(&batch).unwrap();
    for (place, sequence) in batch.iter().enumerate() {
        let alone = running.encode(&[*sequence]).unwrap();
        assert_eq!(together.of(place), alone.of(0), "sequence {place}");
    }
}
