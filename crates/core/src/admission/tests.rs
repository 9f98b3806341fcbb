use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Bytes of a text, and its work.
const TEXT: usize = 12;
const WORK: u64 = 20;

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
        admission.submit(now, door, None, text_work(TEXT), job).unwrap();
    }
}

/// A batch of so many, all understood.
fn finish<J>(admission: &mut Admission<J>, count: usize, took: Duration) {
    let work = count as u64 * WORK;
    admission.on_finished(work, work, took);
}

#[test]
fn batches_form_from_what_waits_in_the_order_of_each_door() {
    let (now, mut admission) = (Instant::now(), Admission::new(LIMITS));
    assert_eq!(admission.next(now), Next::Wait(None));
    fill(&mut admission, now, Door::Grpc, 4);
    admission.submit(now + MS, Door::Mqtt, None, text_work(TEXT), 10).unwrap();
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
        let refused = admission.submit(now, door, None, text_work(TEXT), 99).unwrap_err();
        assert_eq!(refused.job, 99);
        assert!(matches!(refused.error, ParseError::Overloaded { .. }), "{door:?}");
    }
}

#[test]
fn a_request_that_would_wait_too_long_is_refused_at_once() {
    let (now, mut admission) = (Instant::now(), Admission::new(LIMITS));
    finish(&mut admission, 4, 400 * MS);
    // 100 ms an utterance on each of two threads: two ahead are 100 ms, three are 150 ms.
    fill(&mut admission, now, Door::Grpc, 3);
    assert_eq!(admission.expected_wait(), 150 * MS);
    let refused = admission.submit(now, Door::Grpc, None, text_work(TEXT), 3).unwrap_err();
    assert_eq!(refused.error, ParseError::Overloaded { retry_after: 150 * MS });
    admission.submit(now, Door::Mqtt, None, text_work(TEXT), 10).expect("utterances of devices wait");
}

#[test]
fn what_runs_now_is_waited_for_as_well() {
    let (mut admission, now) = (Admission::new(LIMITS), Instant::now());
    finish(&mut admission, 1, 10 * MS);
    fill(&mut admission, now, Door::Grpc, 4);
    let taken = jobs(admission.next(now)).len();
    assert!(taken > 0);
    assert_eq!(admission.depth(), 4 - taken);
    let (queued, threads) = (4 - taken, LIMITS.threads);
    assert_eq!(admission.expected_wait(), (10 * MS).mul_f64((queued + taken) as f64 / threads as f64));
    finish(&mut admission, taken, 10 * MS * taken as u32);
    assert_eq!(admission.expected_wait(), (10 * MS).mul_f64(queued as f64 / threads as f64));
}

#[test]
fn a_request_that_would_miss_its_deadline_is_refused_at_once() {
    let (now, mut admission) = (Instant::now(), Admission::new(LIMITS));
    finish(&mut admission, 1, 100 * MS);
    admission.submit(now, Door::Grpc, None, text_work(TEXT), 0).unwrap();
    // 50 ms behind the first, on two threads, and 100 ms for itself.
    let refused = admission.submit(now, Door::Grpc, Some(now + 149 * MS), text_work(TEXT), 1).unwrap_err();
    assert_eq!(refused.error, ParseError::Overloaded { retry_after: 50 * MS });
    let refused = admission.submit(now, Door::Grpc, Some(now + 99 * MS), text_work(TEXT), 1).unwrap_err();
    assert_eq!(refused.error, ParseError::DeadlineExceeded, "no other time would be better");
    admission.submit(now, Door::Grpc, Some(now + 150 * MS), text_work(TEXT), 1).unwrap();
    let refused = admission.submit(now, Door::Grpc, Some(now), text_work(TEXT), 2).unwrap_err();
    assert_eq!(refused.error, ParseError::DeadlineExceeded);
}

#[test]
fn a_free_thread_tries_what_seems_hopeless() {
    let (now, mut admission) = (Instant::now(), Admission::new(LIMITS));
    finish(&mut admission, 1, Duration::from_secs(100));
    for round in 0..100 {
        admission
            .submit(now, Door::Grpc, Some(now + 50 * MS), text_work(TEXT), round)
            .expect("a thread is free");
        assert_eq!(jobs(admission.next(now)), [round]);
        finish(&mut admission, 1, MS);
    }
    let wait = admission.time_for(WORK as f64);
    assert!(wait <= 5 * MS, "the estimate has corrected itself: {wait:?}");
}

#[test]
fn what_would_expire_in_inference_enters_no_batch() {
    let (now, mut admission) = (Instant::now(), Admission::new(LIMITS));
    for (job, deadline) in [("hopeless", 9), ("first", 30), ("second", 20), ("third", 29)] {
        admission.submit(now, Door::Grpc, Some(now + deadline * MS), text_work(TEXT), job).unwrap();
    }
    finish(&mut admission, 1, 10 * MS);
    // With the third, the second would be late.
    let Next::Batch { jobs, expired } = admission.next(now) else { panic!("a batch was due") };
    assert_eq!(jobs.iter().map(|admitted| admitted.job).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(expired, ["hopeless"]);
    // The third waits for the next thread, which has just time for it; a moment later none would.
    let Next::Batch { jobs, .. } = admission.next(now + 19 * MS) else { panic!("a batch was due") };
    assert_eq!((jobs[0].job, jobs.len()), ("third", 1));
    admission.submit(now, Door::Grpc, Some(now + 29 * MS), text_work(TEXT), "late").unwrap();
    admission.submit(now, Door::Mqtt, None, text_work(TEXT), "of a device").unwrap();
    let Next::Batch { jobs, expired } = admission.next(now + 20 * MS) else { panic!("a batch was due") };
    assert_eq!((jobs[0].job, jobs.len(), expired), ("of a device", 1, vec!["late"]));
}

#[test]
fn long_texts_count_for_more() {
    let limits = Limits { threads: 1, grpc_places: 100, ..LIMITS };
    let (now, mut admission) = (Instant::now(), Admission::new(limits));
    admission.on_finished(text_work(500), text_work(500), 10 * MS);
    admission.submit(now, Door::Grpc, None, text_work(500), "long").unwrap();
    assert_eq!(admission.expected_wait(), 10 * MS);
    for _ in 0..10 {
        admission.submit(now, Door::Grpc, None, text_work(20), "short").unwrap();
    }
    let wait = admission.expected_wait();
    assert!((15 * MS..=16 * MS).contains(&wait), "{wait:?}");
    admission.on_finished(text_work(4096), 0, MS);
    assert_eq!(admission.expected_wait(), wait, "what was refused by the tokenizer tells nothing");
}

#[test]
fn the_other_door_counts_only_as_far_as_it_takes_turns() {
    let (now, mut admission) = (Instant::now(), Admission::new(Limits { mqtt_places: 100, ..LIMITS }));
    finish(&mut admission, 1, 20 * MS);
    fill(&mut admission, now, Door::Mqtt, 100);
    assert_eq!(admission.expected_wait(), 10 * MS, "a flood of devices doesn't lock out requests");
}

#[test]
fn expired_work_leaves_the_queue_without_inference() {
    let (now, mut admission) = (Instant::now(), Admission::new(LIMITS));
    admission.submit(now, Door::Grpc, Some(now + 5 * MS), text_work(TEXT), "expires").unwrap();
    admission.submit(now, Door::Grpc, Some(now + 9 * MS), text_work(TEXT), "lasts").unwrap();
    admission.submit(now, Door::Mqtt, Some(now + MS), text_work(TEXT), "expires too").unwrap();
    let Next::Batch { jobs, expired } = admission.next(now + 5 * MS) else { panic!("a batch was due") };
    assert_eq!(jobs.iter().map(|admitted| admitted.job).collect::<Vec<_>>(), ["lasts"]);
    assert_eq!(expired, ["expires", "expires too"]);
}

#[test]
fn cancelled_work_frees_its_place() {
    let (now, mut admission) = (Instant::now(), Admission::new(LIMITS));
    let tickets: Vec<_> =
        (0..4).map(|job| admission.submit(now, Door::Grpc, None, text_work(TEXT), job).unwrap()).collect();
    assert_eq!(admission.cancel(tickets[1]), Some(1));
    assert_eq!(admission.cancel(tickets[1]), None);
    admission.submit(now, Door::Grpc, None, text_work(TEXT), 4).expect("a place is free");
    assert_eq!(jobs(admission.next(now)), [0, 2, 3, 4]);
    assert_eq!(admission.cancel(tickets[0]), None, "it is with a worker");
}

#[test]
fn a_batch_may_grow_for_batch_wait_at_most() {
    let limits = Limits { batch_wait: 10 * MS, ..LIMITS };
    let (now, mut admission) = (Instant::now(), Admission::new(limits));
    admission.submit(now, Door::Mqtt, None, text_work(TEXT), 0).unwrap();
    admission.submit(now + 2 * MS, Door::Grpc, None, text_work(TEXT), 1).unwrap();
    assert_eq!(admission.next(now + 3 * MS), Next::Wait(Some(now + 10 * MS)));
    assert_eq!(jobs(admission.next(now + 10 * MS)), [1, 0]);

    fill(&mut admission, now, Door::Grpc, 4);
    assert_eq!(jobs(admission.next(now)).len(), 4, "a full batch starts at once");

    admission.submit(now, Door::Grpc, Some(now + 4 * MS), text_work(TEXT), 5).unwrap();
    assert_eq!(admission.next(now), Next::Wait(Some(now + 4 * MS)), "its submitter is to be told in time");
    assert_eq!(admission.next(now + 4 * MS), Next::Batch { jobs: Vec::new(), expired: vec![5] });

    finish(&mut admission, 1, MS);
    admission.submit(now, Door::Grpc, Some(now + 4 * MS), text_work(TEXT), 6).unwrap();
    assert_eq!(admission.next(now), Next::Wait(Some(now + 3 * MS)), "it must start in time");
    assert_eq!(jobs(admission.next(now + 3 * MS)), [6]);
}

#[test]
fn after_closing_what_was_admitted_is_served_and_nothing_else_comes_in() {
    let limits = Limits { batch_wait: Duration::from_secs(60), ..LIMITS };
    let (now, mut admission) = (Instant::now(), Admission::new(limits));
    admission.submit(now, Door::Grpc, None, text_work(TEXT), 0).unwrap();
    admission.close();
    assert!(admission.is_closed());
    let refused = admission.submit(now, Door::Mqtt, None, text_work(TEXT), 1).unwrap_err();
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
                while admission.submit(now, door, None, text_work(TEXT), door).is_ok() {}
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
fn the_estimate_follows_the_load_and_is_wide_where_times_vary() {
    let mut admission: Admission<()> = Admission::new(LIMITS);
    let estimate = |admission: &Admission<()>| admission.time_for(WORK as f64);
    finish(&mut admission, 0, Duration::from_secs(9));
    assert_eq!(estimate(&admission), Duration::ZERO);
    finish(&mut admission, 2, 20 * MS);
    assert_eq!(estimate(&admission), 10 * MS);
    finish(&mut admission, 1, 20 * MS);
    assert!(estimate(&admission) >= 20 * MS, "one slow batch is enough to be careful");
    (0..60).for_each(|_| finish(&mut admission, 1, 100 * MS));
    assert!((99 * MS..=101 * MS).contains(&estimate(&admission)), "{:?}", estimate(&admission));
    (0..60).for_each(|round| finish(&mut admission, 1, if round % 2 == 0 { 50 * MS } else { 150 * MS }));
    assert!(estimate(&admission) > 200 * MS, "{:?}", estimate(&admission));
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
    fn check(&mut self, admission: &mut Admission<Job>, now: Instant) {
        let Next::Batch { jobs, expired } = admission.next(now) else { return };
        let (limits, ends) =
            (admission.limits, |count| now + admission.time_for((count as u64 * WORK) as f64));
        assert!(jobs.len() <= limits.max_batch && !(jobs.is_empty() && expired.is_empty()));
        for job in jobs.iter().map(|admitted| admitted.job) {
            assert!(self.waiting.remove(&job.number), "{job:?} is lost or served twice");
            assert!(job.deadline.is_none_or(|deadline| deadline > now), "{job:?} is expired");
            let in_time = job.deadline.is_none_or(|deadline| deadline >= ends(jobs.len()));
            assert!(in_time || jobs.len() == 1, "{job:?} expires in its batch");
            let last = self.last_served.insert(job.grpc, job.number);
            assert!(last.is_none_or(|last| last < job.number), "{job:?} is overtaken");
        }
        for job in expired {
            assert!(self.waiting.remove(&job.number), "{job:?} is lost or served twice");
            assert!(job.deadline.is_some_and(|deadline| deadline <= now.max(ends(1))), "{job:?} had time");
            let has_work = !jobs.is_empty();
            assert!(
                has_work || job.deadline.is_some_and(|deadline| deadline <= now),
                "{job:?} was not tried"
            );
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
                    match admission.submit(now, door, deadline, text_work(TEXT), Job { number, grpc, deadline }) {
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
                Event::Next => ledger.check(&mut admission, now),
                Event::Finished { count, millis } => {
                    finish(&mut admission, count, Duration::from_millis(millis));
                }
                Event::Passes { millis } => now += Duration::from_millis(millis),
                Event::Close => admission.close(),
            }
            prop_assert_eq!(admission.depth(), ledger.waiting.len());
            prop_assert!(admission.depth() <= limits.grpc_places + limits.mqtt_places);
        }
        admission.close();
        for _ in 0..admission.depth() {
            ledger.check(&mut admission, now);
        }
        prop_assert!(ledger.waiting.is_empty());
    }
}
