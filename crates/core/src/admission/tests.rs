use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    threads: 2,
    grpc_places: 4,
    mqtt_places: 3,
    max_batch: 4,
    queue_wait: Duration::from_millis(100),
    batch_wait: Duration::ZERO,
};

const MS: Duration = Duration::from_millis(1);

fn jobs<J: Copy>(next: Next<J>) -> Vec<J> {
    match next {
        Next::Batch { jobs, expired } if expired.is_empty() => {
            jobs.iter().map(|admitted| admitted.job).collect()
        }
        Next::Batch { .. } => panic!("something expired"),
        Next::Wait(_) => Vec::new(),
    }
}

fn fill(admission: &mut Admission<usize>, now: Instant, door: Door, count: usize) {
    for job in 0..count {
        admission.submit(now, door, None, job).unwrap();
    }
}

#[test]
fn batches_form_from_what_waits_in_the_order_of_each_door() {
    let (now, mut admission) = (Instant::now(), Admission::new(LIMITS));
    assert_eq!(admission.next(now), Next::Wait(None));
    fill(&mut admission, now, Door::Grpc, 4);
    admission.submit(now + MS, Door::Mqtt, None, 10).unwrap();
    assert_eq!(admission.depth(), 5);
    let Next::Batch { jobs: batch, .. } = admission.next(now + MS) else { panic!("a batch was due") };
    assert_eq!(batch.iter().map(|admitted| admitted.job).collect::<Vec<_>>(), [0, 10, 1, 2]);
    assert_eq!(batch[1].since, now + MS);
    assert_eq!(jobs(admission.next(now)), [3]);
    assert_eq!(admission.next(now), Next::Wait(None));
}

#[test]
fn a_full_door_refuses_and_hands_the_job_back() {
    let (now, mut admission) = (Instant::now(), Admission::new(LIMITS));
    for (door, places) in [(Door::Grpc, LIMITS.grpc_places), (Door::Mqtt, LIMITS.mqtt_places)] {
        fill(&mut admission, now, door, places);
        let refused = admission.submit(now, door, None, 99).unwrap_err();
        assert_eq!(refused.job, 99);
        assert!(matches!(refused.error, ParseError::Overloaded { .. }), "{door:?}");
    }
}

#[test]
fn a_request_that_would_wait_too_long_is_refused_at_once() {
    let (now, mut admission) = (Instant::now(), Admission::new(LIMITS));
    admission.on_finished(4, 400 * MS);
    // 100 ms an utterance on each of two threads: two ahead are 100 ms, three are 150 ms.
    fill(&mut admission, now, Door::Grpc, 3);
    assert_eq!(admission.expected_wait(Door::Grpc), 150 * MS);
    let refused = admission.submit(now, Door::Grpc, None, 3).unwrap_err();
    assert_eq!(refused.error, ParseError::Overloaded { retry_after: 150 * MS });
    admission.submit(now, Door::Mqtt, None, 10).expect("utterances of devices wait");
}

#[test]
fn what_runs_now_is_waited_for_as_well() {
    let (mut admission, now) = (Admission::new(LIMITS), Instant::now());
    admission.on_finished(1, 10 * MS);
    fill(&mut admission, now, Door::Grpc, 4);
    let taken = jobs(admission.next(now)).len();
    assert!(taken > 0);
    assert_eq!(admission.depth(), 4 - taken);
    let (queued, threads) = (4 - taken, LIMITS.threads);
    assert_eq!(
        admission.expected_wait(Door::Grpc),
        (10 * MS).mul_f64((queued + taken) as f64 / threads as f64)
    );
    admission.on_finished(taken, 10 * MS * taken as u32);
    assert_eq!(admission.expected_wait(Door::Grpc), (10 * MS).mul_f64(queued as f64 / threads as f64));
}

#[test]
fn a_request_that_would_miss_its_deadline_is_refused_at_once() {
    let (now, mut admission) = (Instant::now(), Admission::new(LIMITS));
    admission.on_finished(1, 100 * MS);
    admission.submit(now, Door::Grpc, None, 0).unwrap();
    let refused = admission.submit(now, Door::Grpc, Some(now + 49 * MS), 1).unwrap_err();
    assert!(matches!(refused.error, ParseError::Overloaded { .. }));
    admission.submit(now, Door::Grpc, Some(now + 50 * MS), 1).unwrap();
    let refused = admission.submit(now, Door::Grpc, Some(now), 2).unwrap_err();
    assert_eq!(refused.error, ParseError::DeadlineExceeded);
}

#[test]
fn the_other_door_counts_only_as_far_as_it_takes_turns() {
    let (now, mut admission) = (Instant::now(), Admission::new(Limits { mqtt_places: 100, ..LIMITS }));
    admission.on_finished(1, 20 * MS);
    fill(&mut admission, now, Door::Mqtt, 100);
    assert_eq!(admission.expected_wait(Door::Grpc), 10 * MS, "a flood of devices doesn't lock out requests");
}

#[test]
fn expired_work_leaves_the_queue_without_inference() {
    let (now, mut admission) = (Instant::now(), Admission::new(LIMITS));
    admission.submit(now, Door::Grpc, Some(now + 5 * MS), "expires").unwrap();
    admission.submit(now, Door::Grpc, Some(now + 9 * MS), "lasts").unwrap();
    admission.submit(now, Door::Mqtt, Some(now + MS), "expires too").unwrap();
    let Next::Batch { jobs, expired } = admission.next(now + 5 * MS) else { panic!("a batch was due") };
    assert_eq!(jobs.iter().map(|admitted| admitted.job).collect::<Vec<_>>(), ["lasts"]);
    assert_eq!(expired, ["expires", "expires too"]);
}

#[test]
fn cancelled_work_frees_its_place() {
    let (now, mut admission) = (Instant::now(), Admission::new(LIMITS));
    let tickets: Vec<_> = (0..4).map(|job| admission.submit(now, Door::Grpc, None, job).unwrap()).collect();
    assert_eq!(admission.cancel(tickets[1]), Some(1));
    assert_eq!(admission.cancel(tickets[1]), None);
    admission.submit(now, Door::Grpc, None, 4).expect("a place is free");
    assert_eq!(jobs(admission.next(now)), [0, 2, 3, 4]);
    assert_eq!(admission.cancel(tickets[0]), None, "it is with a worker");
}

#[test]
fn a_batch_may_grow_for_batch_wait_at_most() {
    let limits = Limits { batch_wait: 10 * MS, ..LIMITS };
    let (now, mut admission) = (Instant::now(), Admission::new(limits));
    admission.submit(now, Door::Mqtt, None, 0).unwrap();
    admission.submit(now + 2 * MS, Door::Grpc, None, 1).unwrap();
    assert_eq!(admission.next(now + 3 * MS), Next::Wait(Some(now + 10 * MS)));
    assert_eq!(jobs(admission.next(now + 10 * MS)), [1, 0]);

    fill(&mut admission, now, Door::Grpc, 4);
    assert_eq!(jobs(admission.next(now)).len(), 4, "a full batch starts at once");

    admission.submit(now, Door::Grpc, Some(now + 4 * MS), 5).unwrap();
    assert_eq!(admission.next(now), Next::Wait(Some(now + 4 * MS)), "its submitter is to be told in time");
    assert_eq!(admission.next(now + 4 * MS), Next::Batch { jobs: Vec::new(), expired: vec![5] });
}

#[test]
fn after_closing_what_was_admitted_is_served_and_nothing_else_comes_in() {
    let limits = Limits { batch_wait: Duration::from_secs(60), ..LIMITS };
    let (now, mut admission) = (Instant::now(), Admission::new(limits));
    admission.submit(now, Door::Grpc, None, 0).unwrap();
    admission.close();
    assert!(admission.is_closed());
    let refused = admission.submit(now, Door::Mqtt, None, 1).unwrap_err();
    assert!(matches!(refused.error, ParseError::Unavailable(_)));
    assert_eq!(jobs(admission.next(now)), [0]);
}

#[test]
fn under_a_flood_at_one_door_the_other_keeps_its_share() {
    for max_batch in [1, 4] {
        let (now, mut admission) = (Instant::now(), Admission::new(Limits { max_batch, ..LIMITS }));
        let mut served = BTreeMap::from([(Door::Grpc.as_str(), 0), (Door::Mqtt.as_str(), 0)]);
        for _ in 0..1000 {
            for door in [Door::Grpc, Door::Mqtt] {
                while admission.submit(now, door, None, door).is_ok() {}
            }
            let batch = jobs(admission.next(now));
            assert_eq!(batch.len(), max_batch);
            batch.iter().for_each(|door| *served.entry(door.as_str()).or_default() += 1);
        }
        let share = f64::from(served["mqtt"]) / f64::from(served["mqtt"] + served["grpc"]);
        assert!((0.4..0.6).contains(&share), "{served:?}");
    }
}

#[test]
fn the_mean_follows_the_load() {
    let mut admission: Admission<()> = Admission::new(LIMITS);
    admission.on_finished(0, Duration::from_secs(9));
    assert_eq!(admission.service, None);
    admission.on_finished(2, 20 * MS);
    assert_eq!(admission.service, Some(10 * MS));
    (0..30).for_each(|_| admission.on_finished(1, 100 * MS));
    let mean = admission.service.unwrap();
    assert!((99 * MS..=100 * MS).contains(&mean), "{mean:?}");
}

#[derive(Clone, Debug)]
enum Event {
    Submit { grpc: bool, deadline: Option<u64> },
    Cancel { pick: usize },
    Next,
    Finished { count: usize, millis: u64 },
    Passes { millis: u64 },
    Close,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (any::<bool>(), prop::option::of(0..40_u64))
            .prop_map(|(grpc, deadline)| Event::Submit { grpc, deadline }),
        2 => any::<usize>().prop_map(|pick| Event::Cancel { pick }),
        4 => Just(Event::Next),
        1 => (0..5_usize, 0..50_u64).prop_map(|(count, millis)| Event::Finished { count, millis }),
        3 => (0..10_u64).prop_map(|millis| Event::Passes { millis }),
        1 => prop::bool::weighted(0.05).prop_map(|close| if close { Event::Close } else { Event::Next }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    number: usize,
    grpc: bool,
    deadline: Option<Instant>,
}

/// What must have become of every job.
#[derive(Default)]
struct Ledger {
    waiting: BTreeSet<usize>,
    last_served: BTreeMap<bool, usize>,
}

impl Ledger {
    fn check(&mut self, next: Next<Job>, now: Instant, limits: Limits) {
        let Next::Batch { jobs, expired } = next else { return };
        assert!(jobs.len() <= limits.max_batch && !(jobs.is_empty() && expired.is_empty()));
        for job in jobs.iter().map(|admitted| admitted.job) {
            assert!(self.waiting.remove(&job.number), "{job:?} is lost or served twice");
            assert!(job.deadline.is_none_or(|deadline| deadline > now), "{job:?} is expired");
            let last = self.last_served.insert(job.grpc, job.number);
            assert!(last.is_none_or(|last| last < job.number), "{job:?} is overtaken");
        }
        for job in expired {
            assert!(self.waiting.remove(&job.number), "{job:?} is lost or served twice");
            assert!(job.deadline.is_some_and(|deadline| deadline <= now), "{job:?} is not expired");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_job_ends_once_and_in_order(
        events in prop::collection::vec(event(), 1..150),
        max_batch in 1..6_usize,
        batch_wait in 0..10_u64,
    ) {
        let limits = Limits { max_batch, batch_wait: Duration::from_millis(batch_wait), ..LIMITS };
        let (mut now, mut admission) = (Instant::now(), Admission::new(limits));
        let (mut ledger, mut tickets) = (Ledger::default(), Vec::new());
        for (number, event) in events.into_iter().enumerate() {
            match event {
                Event::Submit { grpc, deadline } => {
                    let deadline = deadline.map(|millis| now + Duration::from_millis(millis));
                    let door = if grpc { Door::Grpc } else { Door::Mqtt };
                    match admission.submit(now, door, deadline, Job { number, grpc, deadline }) {
                        Ok(ticket) => {
                            ledger.waiting.insert(number);
                            tickets.push((ticket, number));
                        }
                        Err(refused) => prop_assert_eq!(refused.job.number, number),
                    }
                }
                Event::Cancel { pick } if !tickets.is_empty() => {
                    let (ticket, number) = tickets[pick % tickets.len()];
                    let cancelled = admission.cancel(ticket).map(|job| job.number);
                    prop_assert_eq!(cancelled, ledger.waiting.remove(&number).then_some(number));
                }
                Event::Cancel { .. } => {}
                Event::Next => ledger.check(admission.next(now), now, limits),
                Event::Finished { count, millis } => {
                    admission.on_finished(count, Duration::from_millis(millis));
                }
                Event::Passes { millis } => now += Duration::from_millis(millis),
                Event::Close => admission.close(),
            }
            prop_assert_eq!(admission.depth(), ledger.waiting.len());
            prop_assert!(admission.depth() <= limits.grpc_places + limits.mqtt_places);
        }
        admission.close();
        for _ in 0..admission.depth() {
            ledger.check(admission.next(now), now, limits);
        }
        prop_assert!(ledger.waiting.is_empty());
    }
}
