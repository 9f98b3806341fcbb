//! Random sequences against a model of a broker: whatever happens, and in whatever order, the promises hold.
//!
//! Each sequence interleaves what the devices, the broker, the network, inference and the clock do: connections are
//! cut with packets on their way in both directions, sessions are kept or lost, PUBACKs come late, out of order,
//! twice, or as refusals. [`Run`] checks the promises at every action; at the end the network calms down, and then
//! everything must be answered.

mod broker;
mod run;
mod said;

use proptest::prelude::*;

use broker::Identifiers;
use run::{Run, Setting, Step};

fn setting() -> impl Strategy<Value = Setting> {
    let identifiers = prop_oneof![Just(Identifiers::LowestFree), Just(Identifiers::Counting)];
    (1..6_u16, 1..5_u16, prop::bool::weighted(0.2), identifiers).prop_map(
        |(receive_maximum, window, boundless, identifiers)| Setting {
            receive_maximum,
            window,
            boundless,
            identifiers,
        },
    )
}

/// A step by its number: the low byte picks which by weight, the rest says how. Plain numbers are drawn and shrunk much
/// faster than steps.
fn step(number: u32) -> Step {
    let [which, how, low, high] = number.to_le_bytes();
    let pick = u16::from_le_bytes([low, high]);
    match which % 70 {
        0..10 => Step::BrokerSends,
        10..24 => Step::DaemonReads,
        24..34 => Step::BrokerReads,
        34..44 => Step::BrokerAnswers { pick, how: how % 10 },
        44..54 => Step::InferenceEnds { pick, how: how % 10 },
        54..60 => Step::Say { device: how % 3, kind: low % 12, id: high % 8 },
        60..64 => Step::TimePasses { millis: u64::from(pick % 2000) },
        64..66 => Step::Cut { read: how % 6, forget: low % 4 == 3 },
        66..69 => Step::Connect,
        _ => Step::BrokerRepeats { pick },
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_utterance_is_answered_before_it_is_acknowledged(
        setting in setting(),
        steps in prop::collection::vec(any::<u32>(), 1..300),
    ) {
        let mut run = Run::new(setting);
        run.step(Step::Connect);
        for number in steps {
            run.step(step(number));
        }
        run.calm_down();
    }
}
