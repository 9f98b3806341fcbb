//! Random sequences against a model of a broker: whatever happens, and in whatever order, the promises hold.
//!
//! Each sequence interleaves what the devices, the broker, the network, inference and the clock do: connections are
//! cut with packets on their way in both directions, sessions are kept or lost, PUBACKs come late, out of order,
//! twice, or as refusals. [`Run`] checks the promises at every action; at the end the network calms down, and then
//! everything must be answered.

mod broker;
mod run;

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

fn step() -> impl Strategy<Value = Step> {
    let pick = any::<u16>();
    prop_oneof![
        6 => (0..3_u8, 0..12_u8, 0..8_u8).prop_map(|(device, kind, id)| Step::Say { device, kind, id }),
        10 => Just(Step::BrokerSends),
        14 => Just(Step::DaemonReads),
        10 => Just(Step::BrokerReads),
        10 => (pick, 0..10_u8).prop_map(|(pick, how)| Step::BrokerAnswers { pick, how }),
        10 => (pick, 0..10_u8).prop_map(|(pick, how)| Step::InferenceEnds { pick, how }),
        4 => (0..2000_u64).prop_map(|millis| Step::TimePasses { millis }),
        2 => (0..6_u8, prop::bool::weighted(0.25)).prop_map(|(read, forget)| Step::Cut { read, forget }),
        3 => Just(Step::Connect),
        1 => pick.prop_map(|pick| Step::BrokerRepeats { pick }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_utterance_is_answered_before_it_is_acknowledged(
        setting in setting(),
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut run = Run::new(setting);
        run.step(Step::Connect);
        for step in steps {
            run.step(step);
        }
        run.calm_down();
    }
}
