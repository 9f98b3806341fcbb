//! Overload on a machine with other work: one thread whose speed changes, requests that come several times faster than
//! they can be served, and devices that always have something waiting. Told by a clock of its own, the same every time.

use std::time::{Duration, Instant};

use super::*;

const MS: Duration = Duration::from_millis(1);

/// The default ones, for one thread.
const LIMITS: Limits = Limits {
    threads: 1,
    grpc_places: 256,
    mqtt_places: 128,
    max_batch: 8,
    queue_wait: Duration::from_millis(500),
    batch_wait: Duration::ZERO,
};

const LASTS: Duration = Duration::from_secs(300);

/// What is asked for.
struct Load {
    /// Of what an undisturbed thread can do, from requests alone.
    times: f64,
    /// Least and most bytes, and deadlines of requests in milliseconds.
    bytes: (u64, u64),
    deadlines: (u64, u64),
    /// What devices have in flight.
    devices: usize,
    /// How much slower the machine is.
    slowness: f64,
}

#[derive(Default)]
struct Figures {
    admitted: u32,
    missed: u32,
    inferred: u32,
    in_vain: u32,
    of_devices: u32,
    useful: Duration,
}

#[derive(Debug)]
struct Job {
    door: Door,
    bytes: u64,
    deadline: Option<Instant>,
}

/// xorshift.
struct Chance(u64);

impl Chance {
    fn between(&mut self, (least, most): (u64, u64)) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        least + self.0 % (most - least + 1)
    }
}

struct Machine {
    now: Instant,
    chance: Chance,
    admission: Admission<Job>,
    running: Option<(Vec<Admitted<Job>>, Duration, Instant)>,
    /// How much slower it is than undisturbed, and until when.
    slower: (f64, Instant),
    figures: Figures,
}

/// Undisturbed: as long as a Zen 3 core takes for the default bundle.
fn cost(bytes: u64) -> Duration {
    Duration::from_micros(100 + 19 * bytes + bytes * bytes / 100)
}

impl Machine {
    fn run(load: &Load) -> Figures {
        let start = Instant::now();
        let mut machine = Self {
            now: start,
            chance: Chance(0x9E37_79B9_7F4A_7C15),
            admission: Admission::new(LIMITS),
            running: None,
            slower: (1.0, start),
            figures: Figures::default(),
        };
        // It has answered before.
        let (bytes, took) = (load.bytes.1, cost(load.bytes.1).mul_f64(load.slowness));
        machine.admission.on_finished(text_work(bytes as usize), text_work(bytes as usize), took);
        let every = cost((load.bytes.0 + load.bytes.1) / 2).mul_f64(load.slowness / load.times);
        (0..load.devices).for_each(|_| machine.say(load));
        let mut arrives = start;
        while machine.now < start + LASTS {
            match machine.running.take_if(|running| running.2 <= arrives) {
                Some((jobs, took, ends)) => {
                    machine.now = ends;
                    machine.finish(&jobs, took, load);
                }
                None => {
                    machine.now = arrives;
                    machine.ask(load);
                    // Twice as long at most: requests come in no rhythm.
                    arrives += every.mul_f64(machine.chance.between((0, 200)) as f64 / 100.0);
                }
            }
            machine.begin(load);
        }
        machine.figures
    }

    fn ask(&mut self, load: &Load) {
        let bytes = self.chance.between(load.bytes);
        let deadline = Some(self.now + MS * self.chance.between(load.deadlines) as u32);
        let job = Job { door: Door::Grpc, bytes, deadline };
        let admitted = self.admission.submit(self.now, Door::Grpc, deadline, text_work(bytes as usize), job);
        self.figures.admitted += u32::from(admitted.is_ok());
    }

    fn say(&mut self, load: &Load) {
        let bytes = self.chance.between(load.bytes);
        let job = Job { door: Door::Mqtt, bytes, deadline: None };
        self.admission
            .submit(self.now, Door::Mqtt, None, text_work(bytes as usize), job)
            .expect("a device is never refused");
    }

    /// Gives the thread its next batch, where it is free.
    fn begin(&mut self, load: &Load) {
        while self.running.is_none() {
            let Next::Batch { jobs, expired } = self.admission.next(self.now) else { return };
            self.figures.missed += expired.len() as u32;
            if !jobs.is_empty() {
                let alone: Duration = jobs.iter().map(|admitted| cost(admitted.job.bytes)).sum();
                let took = alone.mul_f64(load.slowness * self.disturbance());
                self.running = Some((jobs, took, self.now + took));
            }
        }
    }

    fn finish(&mut self, jobs: &[Admitted<Job>], took: Duration, load: &Load) {
        let work = jobs.iter().map(|admitted| admitted.work).sum();
        self.admission.on_finished(work, work, took);
        let late = |job: &Job| job.deadline.is_some_and(|deadline| deadline < self.now);
        let in_vain = jobs.iter().filter(|admitted| late(&admitted.job)).count() as u32;
        let of_devices = jobs.iter().filter(|admitted| admitted.job.door == Door::Mqtt).count() as u32;
        let count = jobs.len() as u32;
        self.figures.inferred += count;
        self.figures.in_vain += in_vain;
        self.figures.missed += in_vain;
        self.figures.of_devices += of_devices;
        self.figures.useful += took * (count - in_vain) / count;
        (0..of_devices).for_each(|_| self.say(load));
    }

    /// Other work comes for a while and doubles every time; besides, no two batches take the same.
    fn disturbance(&mut self) -> f64 {
        if self.slower.1 <= self.now {
            let times = if self.chance.between((0, 3)) == 0 { 2.0 } else { 1.0 };
            self.slower = (times, self.now + MS * self.chance.between((200, 3000)) as u32);
        }
        self.slower.0 * self.chance.between((100, 130)) as f64 / 100.0
    }
}

impl Figures {
    fn print(&self, what: &str) {
        println!(
            "{what}: {:.2} % of {} admitted missed their deadline, {:.2} % of {} inferences in vain, useful {:.1} % of \
             the time, {:.0} % for devices",
            100.0 * self.missed(),
            self.admitted,
            100.0 * self.in_vain(),
            self.inferred,
            100.0 * self.goodput(),
            100.0 * f64::from(self.of_devices) / f64::from(self.inferred)
        );
    }

    fn missed(&self) -> f64 {
        f64::from(self.missed) / f64::from(self.admitted)
    }

    fn in_vain(&self) -> f64 {
        f64::from(self.in_vain) / f64::from(self.inferred)
    }

    fn goodput(&self) -> f64 {
        self.useful.as_secs_f64() / LASTS.as_secs_f64()
    }
}

/// F17.
#[test]
fn what_is_admitted_under_overload_meets_its_deadline() {
    let load = Load { times: 5.0, bytes: (504, 504), deadlines: (1000, 1000), devices: 64, slowness: 1.0 };
    let figures = Machine::run(&load);
    figures.print("long texts, deadlines of 1 s");
    assert!(figures.missed() <= 0.005 && figures.goodput() >= 0.95);
    assert!(figures.of_devices * 5 >= figures.inferred);
}

/// Eight long texts would take a second there.
#[test]
fn on_a_slow_machine_devices_leave_requests_their_share() {
    let load = Load { times: 5.0, bytes: (504, 504), deadlines: (1000, 1000), devices: 64, slowness: 10.0 };
    let figures = Machine::run(&load);
    figures.print("ten times slower");
    assert!(figures.missed() <= 0.01 && figures.goodput() >= 0.95);
    assert!((figures.inferred - figures.of_devices) * 5 >= figures.inferred);
}

/// F18. The thread always has something to do; else it tries what seems hopeless.
#[test]
fn under_deadlines_of_milliseconds_little_is_done_in_vain() {
    for (times, devices) in [(1.5, 0), (3.0, 0), (10.0, 0), (0.3, 4), (3.0, 4)] {
        let load = Load { times, bytes: (10, 120), deadlines: (1, 50), devices, slowness: 1.0 };
        let figures = Machine::run(&load);
        figures.print(&format!(
            "{times} times the peak, {devices} in flight of devices, deadlines of 1 to 50 ms"
        ));
        assert!(figures.in_vain() <= 0.005 && figures.missed() <= 0.01 && figures.goodput() >= 0.95);
    }
}
